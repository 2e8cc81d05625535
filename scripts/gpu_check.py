"""One short visit to a GPU: whether GPT-2 is right on it, what it counts, holds and takes.

    python scripts/gpu_check.py                              # every stage, at most 9 minutes
    python scripts/gpu_check.py --stages memory,decode --out DIR
    python scripts/gpu_check.py --dry-run                    # no GPU: what can be checked without

The model is made on the device, at its true size with random values; nothing is downloaded and
nothing has to be installed but CuPy. Stages run by worth, each in a process of its own that writes
DIR/STAGE.json as it finds; DIR/visit.md and DIR/visit.json hold everything. A dry run says what
each stage would do, checks what needs no device, and runs all on a stand-in in tiny sizes.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 540  # of a visit, at most
DRY = "DRY RUN: a stand-in over NumPy plays the GPU. No GPU code ran; times and rates mean nothing."
sys.path.insert(0, str(ROOT))  # it runs from a checkout

from gpu_visit import stages  # noqa: E402

from minigpt.errors import InputError  # noqa: E402
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config  # noqa: E402

if TYPE_CHECKING:
    pass

TINY = GPT2Config(vocab_size=320, n_positions=64, n_embd=48, n_layer=2, n_head=3)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", help="some of them, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder for results")
    parser.add_argument("--model", default="gpt2-xl", help="gpt2, gpt2-medium, -large or -xl")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="to end all stages after")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one stage, in this process
    parser.add_argument("--profiled", help=argparse.SUPPRESS)  # a part, in a process under ncu
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # without peers
    args = parser.parse_args()
    if args.model not in GPT2_SIZES:
        parser.error(f"unknown model {args.model}; known are {', '.join(GPT2_SIZES)}")
    chosen = args.stages.split(",") if args.stages else list(stages.STAGES)
    if unknown := set(chosen) - stages.STAGES.keys():
        known = ", ".join(stages.STAGES)
        parser.error(f"unknown stage {min(unknown)}; stages are {known}")
    try:
        if args.only or args.profiled:
            return _here(args)
        return _visit(args, [name for name in stages.STAGES if name in (*chosen, "environment")])
    except InputError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2


def _here(args: argparse.Namespace) -> int:
    """One stage, or one part of one, in this process."""
    stages.tell_where()
    if args.dry_run:
        sys.path[:0] = [str(ROOT / "tests" / "fakes"), str(ROOT / "tests" / "fakes" / "cuda")]

    from minigpt.inference.device import place

    place("cuda", "float16")  # says what is missing, before CuPy is imported by anything else
    from gpu_visit.visit import Visit

    config = TINY if args.tiny or args.dry_run else GPT2_SIZES[args.model]
    ends = time.monotonic() + args.seconds
    visit = Visit(config, args.model, args.dry_run, args.out, ends, not args.alone)
    if args.profiled:
        from gpu_visit import counters

        counters.profiled(visit, args.profiled)
        return 0
    return 0 if stages.run(args.only, visit, args.out / f"{args.only}.json") else 1


def _visit(args: argparse.Namespace, names: list[str]) -> int:
    """All stages, one after another, and what they found."""
    ends = time.monotonic() + args.seconds
    if args.dry_run:
        from gpu_visit import without

        print(f"{DRY}\n", flush=True)
        if not without.checked(args.model):
            return 1
    results: dict[str, Any] = {}
    for name in names:
        results[name] = _stage(name, args, ends)
        print("\n".join(_rows(name, results[name])), flush=True)
    return _finish(results, args)


def _stage(name: str, args: argparse.Namespace, ends: float) -> stages.Result:
    """What a stage finds in a process of its own; where it breaks beside a peer, again alone."""
    stage, file = stages.STAGES[name], args.out / f"{name}.json"

    def launched(*more: str, blocking: bool = False) -> stages.Result:
        limit = min(ends - time.monotonic(), 3 * stage.seconds)
        if limit <= 0:
            return {"skipped": "no time was left", "rows": []}
        options = ["--model", args.model, "--out", str(args.out), "--seconds", f"{limit:.0f}"]
        options += ["--dry-run"] if args.dry_run else []
        try:
            return stages.launch(name, [*options, *more], file, limit, blocking)
        except InputError as error:
            if name == "environment":
                raise
            return {"error": str(error), "rows": []}

    found, alone = launched(), ["--alone"] * stage.peers
    if alone and "error" in found and "skipped" not in (again := launched(*alone)):
        again["rows"].append((f"{name} beside peers", "FAILED", found["error"]))
        found = again
    if found.get("error", "").startswith("CUDA"):  # which came later than what it is of
        found["error"] = launched(*alone, blocking=True).get("error", found["error"])
    stages.write(file, found)
    return found


def _rows(name: str, found: stages.Result) -> list[str]:
    """Lines of the table."""
    failed = found.get("error") or found.get("skipped")
    rows = [*found["rows"], *([(name, "FAILED", failed)] if failed else [])]
    return [f"| {' | '.join(row)} |".replace("\n", " ") for row in rows]


def _finish(results: dict[str, stages.Result], args: argparse.Namespace) -> int:
    about = {
        "dry_run": args.dry_run,
        "note": DRY if args.dry_run else "",
        "model": "tiny" if args.dry_run else args.model,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    lines = [f"# {results['environment'].get('gpu', 'a GPU')}, {about['date']}", ""]
    lines += [f"{about['note']}\n"] if args.dry_run else []
    lines += ["| measured | result | beside it |", "| --- | --- | --- |"]
    lines += [line for name, found in results.items() for line in _rows(name, found)]
    (args.out / "visit.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    stages.write(args.out / "visit.json", {**about, "stages": results})
    failed = [name for name, found in results.items() if "error" in found]
    wrong = f", FAILED: {', '.join(failed)}" if failed else ""
    print(f"\n{len(results)} stages{wrong}; all of it is in {args.out / 'visit.md'} and visit.json")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""One short visit to a GPU: whether GPT-2 is right on it, what it counts, holds and takes.

    python scripts/gpu_check.py                              # every stage, at most 9 minutes
    python scripts/gpu_check.py --stages memory,decode --out DIR
    python scripts/gpu_check.py --dry-run                    # no GPU: a stand-in, tiny sizes

The model is made on the device, at its true size with random values; nothing is downloaded. Each
stage writes DIR/STAGE.json as soon as it has it. At the end come a Markdown table and, as the last
line, everything as one JSON document; both are written too (visit.md, visit.json).
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 540  # of a visit, at most
DRY = "DRY RUN: a stand-in over NumPy plays the GPU. No GPU code ran; times and rates mean nothing."

if TYPE_CHECKING:
    from gpu_visit.visit import Visit

Stage = Callable[["Visit"], dict[str, Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", help="some of them, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder for results")
    parser.add_argument("--model", default="gpt2-xl", help="gpt2, gpt2-medium, -large or -xl")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="to start no stage after")
    parser.add_argument("--dry-run", action="store_true", help="without a GPU, on a stand-in")
    parser.add_argument("--profiled", help=argparse.SUPPRESS)  # a part, in a process under ncu
    args = parser.parse_args()
    ends = time.monotonic() + args.seconds
    sys.path.insert(0, str(ROOT))
    if args.dry_run:
        sys.path.insert(0, str(ROOT / "tests" / "fakes"))
        print(DRY, flush=True)

    from minigpt.errors import InputError
    from minigpt.inference.device import place
    from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config

    tiny = GPT2Config(vocab_size=320, n_positions=64, n_embd=48, n_layer=2, n_head=3)
    if args.model not in GPT2_SIZES:
        parser.error(f"unknown model {args.model}; known are {', '.join(GPT2_SIZES)}")
    config = tiny if args.dry_run else GPT2_SIZES[args.model]
    stages = _stages()
    chosen = args.stages.split(",") if args.stages else list(stages)
    if unknown := set(chosen) - set(stages):
        parser.error(f"unknown stage {min(unknown)}; stages are {', '.join(stages)}")
    try:
        place("cuda", "float16")  # says what is missing, before CuPy is imported by anything else
        from gpu_visit.visit import Visit

        if args.profiled:
            from gpu_visit import counters

            counters.profiled(counters.small(config, args.dry_run), args.profiled)
            return 0
        visit = Visit(config, args.dry_run, ends)
    except InputError as error:
        print(f"gpu_check: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    for name in chosen:
        visit.results[name] = _run(stages[name], visit)
        text = json.dumps(visit.results[name], indent=1)
        (args.out / f"{name}.json").write_text(f"{text}\n")
    return _finish(visit, args.model, args.out)


def _stages() -> dict[str, Stage]:
    def late(file: str, name: str) -> Stage:  # CuPy is imported by then
        def stage(visit: "Visit") -> dict[str, Any]:
            from importlib import import_module

            return getattr(import_module(f"gpu_visit.{file}"), name)(visit)

        return stage

    files = {"truth": ("memory", "counted", "correctness"), "ceilings": ("ceilings", "calls")}
    files |= {"speed": ("decode", "prefill", "operations"), "counters": ("counters",)}
    return {name: late(file, name) for file, names in files.items() for name in names}


def _run(stage: Stage, visit: "Visit") -> dict[str, Any]:
    """What a stage finds and the seconds it took; what went wrong does not stop the others."""
    if time.monotonic() > visit.ends:
        return {"skipped": "no time was left", "rows": []}
    began = time.monotonic()
    try:
        found = stage(visit)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}", "rows": []}
    return {**found, "stage_s": round(time.monotonic() - began, 2)}


def _finish(visit: "Visit", model: str, out: Path) -> int:
    about = {
        "dry_run": visit.dry,
        "note": DRY if visit.dry else "",
        "model": "tiny" if visit.dry else model,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        **_machine(visit),
    }
    lines = [f"# {about['gpu']}, {about['date']}", ""]
    lines += [f"{about['note']}\n"] if visit.dry else []
    lines += [", ".join(f"{k} {v}" for k, v in about["versions"].items()), ""]
    lines += ["| measured | result | beside it |", "| --- | --- | --- |"]
    for name, result in visit.results.items():
        failed = result.get("error") or result.get("skipped")
        lines += [f"| {name} | FAILED | {failed} |".replace("\n", " ")] if failed else []
        lines += [f"| {' | '.join(row)} |" for row in result["rows"]]
    document = json.dumps({**about, "stages": visit.results})
    (out / "visit.md").write_text("\n".join(lines) + "\n")
    (out / "visit.json").write_text(f"{document}\n")
    print("\n".join(lines), document, sep="\n\n")
    return 1 if any("error" in result for result in visit.results.values()) else 0


def _machine(visit: "Visit") -> dict[str, Any]:
    import cupy

    runtime, versions = cupy.cuda.runtime, {"python": platform.python_version()}
    for package in ("numpy", "torch", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    versions["cupy"] = cupy.__version__
    versions["CUDA of CuPy"] = str(runtime.runtimeGetVersion())
    versions["CUDA of the driver"] = str(runtime.driverGetVersion())
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.mem,memory.total"]
        asked.append("--format=csv,noheader")
        smi = subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        smi = "no nvidia-smi"
    capability = visit.device.capability / 10
    return {
        "gpu": visit.device.name,
        "capability": capability,
        "nvidia_smi": smi,
        "versions": versions,
    }


if __name__ == "__main__":
    sys.exit(main())

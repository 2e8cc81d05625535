"""How fast it is: tokens a second beside transformers and beside the floor, and what takes it."""

from collections.abc import Callable, Iterator
from typing import Any

import cupy

from counting import observing
from counting.charge import Charge
from counting.views import matmul
from gpu_visit import fast
from gpu_visit.peer import peer
from gpu_visit.stages import Result, Row, tried
from gpu_visit.visit import Run, Visit
from minigpt.models.paths import component

Makers = dict[str, Callable[[int], Run]]  # of decode steps, for a number of keys


def decode(visit: Visit) -> Iterator[Result]:
    """Decode steps at few, some and all keys; what is not there or breaks is said first."""
    step, rows = fast.engine(visit)
    other, why = peer(visit)
    yield {"rows": rows + why}
    theirs: Makers = {}
    if step:
        theirs = {"fast": step.called, "fast, kernel": step.launched, "fast, graph": step.graph}
    if other:
        theirs["transformers"] = other.decoder
    for keys in visit.keys:
        yield _decoded(visit, keys, theirs)


def compiled(visit: Visit) -> Iterator[Result]:
    """The same beside transformers, compiled."""
    other, rows = peer(visit)
    yield {"rows": rows}
    if other:
        theirs = {"transformers, compiled": other.compiled()}
        for keys in visit.keys:
            yield _decoded(visit, keys, theirs)


def _decoded(visit: Visit, keys: int, theirs: Makers) -> Result:
    """Steps at a number of keys, ours counted and bare beside those of others, all in turn."""
    runs = {
        "counted": visit.decoder(visit.model, keys),
        "bare": visit.decoder(visit.bare, keys),
    }
    moved = _observed(visit, runs["counted"])
    made = {name: tried(name, lambda make=make: make(keys)) for name, make in theirs.items()}
    beside = {name: run for name, (run, broke) in made.items() if not broke}
    times, broke = visit.interleaved(runs, beside, visit.rounds)
    rows = _rows(visit, f"decode at {keys} keys", 1, times, moved)
    rows += [row for _, rows in made.values() for row in rows] + broke
    return {f"{keys} keys": {"times": times, **moved}, "rows": rows}


def prefill(visit: Visit) -> Iterator[Result]:
    """A prompt at once."""
    runs = {"counted": visit.prefill(visit.model), "bare": visit.prefill(visit.bare)}
    moved = _observed(visit, runs["counted"])
    other, rows = peer(visit)
    theirs = {"transformers": other.prefill()} if other else {}
    times, broke = visit.interleaved(runs, theirs, visit.rounds // 3)
    rows += _rows(visit, f"prefill of {visit.prompt}", visit.prompt, times, moved) + broke
    yield {"times": times, **moved, "rows": rows}


def _observed(visit: Visit, run: Run) -> Result:
    """FLOP of one pass, and the bytes of weights and cache that it must move."""
    run()  # prices are found in the first
    before = visit.ledger.snapshot()
    run()
    counts = visit.ledger.snapshot() - before
    must = counts.bytes_read["weights"] + counts.bytes_read["kv_cache"]
    return {"matmul_flops": int(matmul(counts)), "bytes": int(must)}


def _rows(visit: Visit, what: str, tokens: int, times: Result, moved: Result) -> list[Row]:
    """Rates, beside what the machine's own ceilings allow where they were measured."""
    best = visit.found("ceilings")
    rows: list[Row] = []
    for name, time in times.items():
        s = time["median_s"]
        read, done = moved["bytes"] / s, moved["matmul_flops"] / s
        rates = (
            f"{1000 * s:.3f} ms, {done / 1e9:,.0f} GFLOP/s, "
            f"{read / 1e9:,.0f} GB/s of weights and cache"
        )
        if "read_bytes_per_s" in best:
            rates += (
                f"; {read / best['read_bytes_per_s']:.1%} of what can be read, "
                f"{done / best['float16_flop_per_s']:.1%} of what can be multiplied"
            )
        rows.append((f"{what}: {name}", f"{tokens / s:,.1f} tokens/s", rates))
    return rows


class OperationTimes:
    """Seconds of each operation of an observed ledger, from its predecessor's end to its own.

    By CUDA events; where the host is slower than the device, that includes the waiting.
    """

    def __init__(self) -> None:
        self._events = [cupy.cuda.Event()]
        self._keys: list[tuple[str, str]] = []
        self._flops: list[int] = []
        self._events[0].record()

    def __call__(self, path: str, charge: Charge, operands: Any, result: Any) -> None:
        event = cupy.cuda.Event()
        event.record()
        self._events.append(event)
        self._keys.append((component(path), charge.operation))
        self._flops.append(2 * charge.cost.get("fma", 0))

    def total(self) -> dict[tuple[str, str], tuple[int, float, int]]:
        """Calls, seconds and 2mnp by component and operation, the slowest first."""
        self._events[-1].synchronize()
        found: dict[tuple[str, str], tuple[int, float, int]] = {}
        pairs = zip(self._events, self._events[1:], strict=False)
        for key, flops, (a, b) in zip(self._keys, self._flops, pairs, strict=True):
            calls, seconds, done = found.get(key, (0, 0.0, 0))
            seconds += cupy.cuda.get_elapsed_time(a, b) / 1000
            found[key] = calls + 1, seconds, done + flops
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))


def operations(visit: Visit) -> Iterator[Result]:
    """Which operations of a decode step and of a prefill take the time."""
    keys = visit.keys[1]
    passes = {
        f"decode at {keys} keys": visit.decoder(visit.model, keys),
        f"prefill of {visit.prompt}": visit.prefill(visit.model),
    }
    for name, run in passes.items():
        run()
        times = OperationTimes()
        with observing(visit.ledger, times):
            run()
        total = times.total()
        seconds = sum(s for _, s, _ in total.values())
        rows: list[Row] = []
        for (where, what), (n, s, flops) in list(total.items())[:5]:
            rate = f", {flops / s / 1e9:,.0f} GFLOP/s" if flops else ""
            rows.append(
                (f"{name}: {where} {what}", f"{s / seconds:.1%}", f"{1e6 * s / n:.1f} µs{rate}")
            )
        found = [
            {"component": where, "operation": what, "calls": n, "seconds": s, "matmul_flops": flops}
            for (where, what), (n, s, flops) in total.items()
        ]
        yield {name: found, "rows": rows}

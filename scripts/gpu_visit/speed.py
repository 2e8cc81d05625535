"""How fast it is: tokens a second beside transformers and beside the floor, and what takes it."""

from collections.abc import Callable
from typing import Any

import cupy

from counting import observing
from counting.charge import Charge
from counting.views import matmul
from gpu_visit.peer import peer
from gpu_visit.visit import Result, Row, Visit
from minigpt.models.paths import component


def decode(visit: Visit) -> Result:
    """Decode steps at few, some and all keys."""
    found: Result = {}
    rows: list[Row] = []
    for keys in visit.keys:
        runs = {"counted": visit.decoder(visit.model, keys)}
        moved = _observed(visit, runs["counted"])
        runs["bare"] = visit.decoder(visit.bare, keys)
        if other := peer(visit):
            runs["transformers"] = other.decoder(keys)
        times = visit.interleaved(runs, visit.rounds)
        found[f"{keys} keys"] = {"times": times, **moved}
        rows += _rows(visit, f"decode at {keys} keys", 1, times, moved)
    return {**found, "rows": rows}


def prefill(visit: Visit) -> Result:
    """A prompt at once."""
    runs = {"counted": visit.prefill(visit.model)}
    moved = _observed(visit, runs["counted"])
    runs["bare"] = visit.prefill(visit.bare)
    if other := peer(visit):
        runs["transformers"] = other.prefill()
    times = visit.interleaved(runs, visit.rounds // 3)
    rows = _rows(visit, f"prefill of {visit.prompt}", visit.prompt, times, moved)
    return {"times": times, **moved, "rows": rows}


def _observed(visit: Visit, run: Callable[[], Any]) -> Result:
    """FLOP of one pass, and the bytes of weights and cache that it must move."""
    run()  # prices are found in the first
    before = visit.ledger.snapshot()
    run()
    counts = visit.ledger.snapshot() - before
    must = counts.bytes_read["weights"] + counts.bytes_read["kv_cache"]
    return {"matmul_flops": int(matmul(counts)), "bytes": int(must)}


def _floor(visit: Visit, moved: Result) -> float | None:
    """Seconds that the machine's own ceilings allow, where they were measured."""
    best = visit.results.get("ceilings", {})
    if "copy_bytes_per_s" not in best:
        return None
    arithmetic = moved["matmul_flops"] / best["float16_flop_per_s"]
    return max(moved["bytes"] / best["copy_bytes_per_s"], arithmetic)


def _rows(visit: Visit, what: str, tokens: int, times: Result, moved: Result) -> list[Row]:
    floor = _floor(visit, moved)
    rows = []
    for name, time in times.items():
        s = time["median_s"]
        rates = (
            f"{1000 * s:.2f} ms, {moved['matmul_flops'] / s / 1e9:,.0f} GFLOP/s, "
            f"{moved['bytes'] / s / 1e9:,.0f} GB/s of weights and cache"
        )
        beside = f"; {s / floor:.1f} times the floor" if floor else ""
        rows.append((f"{what}: {name}", f"{tokens / s:,.1f} tokens/s", rates + beside))
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


def operations(visit: Visit) -> Result:
    """Which operations of a decode step and of a prefill take the time."""
    keys = visit.keys[1]
    passes = {
        f"decode at {keys} keys": visit.decoder(visit.model, keys),
        f"prefill of {visit.prompt}": visit.prefill(visit.model),
    }
    found: Result = {}
    rows: list[Row] = []
    for name, run in passes.items():
        run()
        times = OperationTimes()
        with observing(visit.ledger, times):
            run()
        total = times.total()
        seconds = sum(s for _, s, _ in total.values())
        found[name] = [
            {"component": where, "operation": what, "calls": n, "seconds": s, "matmul_flops": flops}
            for (where, what), (n, s, flops) in total.items()
        ]
        for (where, what), (n, s, flops) in list(total.items())[:5]:
            rate = f", {flops / s / 1e9:,.0f} GFLOP/s" if flops else ""
            rows.append(
                (f"{name}: {where} {what}", f"{s / seconds:.1%}", f"{1e6 * s / n:.1f} µs{rate}")
            )
    return {**found, "rows": rows}

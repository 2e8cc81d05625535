"""Whether it is right: against NumPy in float32, transformers, a run on shapes, the allocator."""

from collections.abc import Callable, Iterator
from typing import Any

import cupy
import numpy as np

from counting import Counted, Ledger, ShapeArray, category, observing
from counting.views import flops, matmul
from gpu_visit import fast
from gpu_visit.peer import peer
from gpu_visit.stages import Result, Row, tried
from gpu_visit.visit import Visit, relative
from minigpt.inference.device import to_host
from minigpt.models.cache import KVCache
from minigpt.models.gpt2 import GPT2

GREEDY = 16  # tokens, after as many of a prompt

Forward = Callable[..., Any]


def correctness(visit: Visit) -> Iterator[Result]:
    """Logits and greedy tokens on the same weights; the reference is NumPy in float32."""
    tokens = visit.tokens(visit.prompt)
    positions = (0, visit.prompt // 2, visit.prompt - 1)
    with np.errstate(all="ignore"):
        host = GPT2(visit.config, visit.host_weights)
        reference = host(tokens, host.new_cache(1, visit.prompt), "all")[0, list(positions)]
        greedy = greedily(host, host, tokens[:, :GREEDY])
    yield {"NumPy": {"positions": positions, "greedy": greedy}, "rows": []}

    def beside(name: str, logits: np.ndarray, said: list[int]) -> Result:
        errors = [relative(*pair) for pair in zip(logits, reference, strict=True)]
        found = {"relative_error": errors, "greedy": said}
        return {name: found, "rows": [_row(f"logits, {name}", errors, said, greedy)]}

    def ours(name: str, forward: Forward, model: GPT2) -> Result:
        capacity = visit.config.n_positions
        logits = [_at(forward, model.new_cache(1, capacity), tokens, p) for p in positions]
        return beside(name, np.stack(logits), greedily(forward, model, tokens[:, :GREEDY]))

    yield ours("float32", visit.wide, visit.wide)
    yield ours("float16", visit.model, visit.model)
    step, rows = fast.engine(visit)
    yield {"rows": rows}
    if step:
        yield ours("float16, fast", step.forward, step.model)
    other, rows = peer(visit)
    if other:
        logits, rows = tried("transformers", lambda: other.logits(tokens)[0, list(positions)])
    if other and not rows:
        yield beside("transformers", logits, other.greedy(tokens[:, :GREEDY], GREEDY))
    yield {"rows": rows}


def _at(forward: Forward, cache: KVCache, tokens: np.ndarray, position: int) -> np.ndarray:
    """The logits of a position, after all before it."""
    if position:
        forward(tokens[:, :position], cache)
    return _bare(forward(tokens[:, position : position + 1], cache))[0, -1]


def greedily(forward: Forward, model: GPT2, tokens: np.ndarray) -> list[int]:
    """The most likely tokens, one after another."""
    cache, found, given = model.new_cache(1, tokens.shape[1] + GREEDY), [], tokens
    for _ in range(GREEDY):
        given = _bare(forward(given, cache))[:, -1].argmax(-1)[:, None]
        found.append(int(given[0, 0]))
    return found


def _bare(logits: Any) -> np.ndarray:
    return to_host(logits.data if isinstance(logits, Counted) else logits)


def _row(what: str, errors: list[float], said: list[int], greedy: list[int]) -> Row:
    """The worst error, and how many tokens come before the first that differs."""
    worst = max(errors)
    if not np.isfinite(worst):
        return what, "NOT FINITE", "greedy tokens mean nothing"
    same = [a == b for a, b in zip(said, greedy, strict=True)]
    agreed = same.index(False) if False in same else len(same)
    return what, f"relative error {worst:.2e}", f"{agreed} of {len(same)} greedy tokens are NumPy's"


def counted(visit: Visit) -> Iterator[Result]:
    """What the ledger counted on the GPU against a run of the same passes on shapes."""
    passes = {"prefill": (visit.prompt, 0), "decode": (1, visit.prompt)}
    on_gpu = _passes(visit.model, visit.ledger, passes, lambda tokens: tokens, visit)
    ledger = Ledger()
    with category("weights"):
        shapes = {
            key: Counted(ShapeArray(shape, np.float16), ledger)
            for key, shape in visit.config.shapes().items()
        }
    on_shapes = _passes(
        GPT2(visit.config, shapes), ledger, passes, lambda t: ShapeArray(t.shape, t.dtype), visit
    )
    rows: list[Row] = [
        (
            f"FLOP of a {name}",
            f"{on_gpu[name]['flops']:,}",
            "equal to a run on shapes, kind by kind"
            if on_gpu[name]["kinds"] == on_shapes[name]["kinds"]
            else f"DIFFERS from a run on shapes: {on_shapes[name]['flops']:,}",
        )
        for name in passes
    ]
    same = all(on_gpu[name]["kinds"] == on_shapes[name]["kinds"] for name in passes)
    yield {"gpu": on_gpu, "shapes": on_shapes, "equal": same, "rows": rows}


def _passes(model: GPT2, ledger: Ledger, passes: Any, put: Any, visit: Visit) -> Result:
    found = {}
    for name, (new, past) in passes.items():
        cache = model.new_cache(1, visit.config.n_positions)
        for layer in cache.layers:
            layer.length = past
        before = ledger.snapshot()
        model(put(visit.tokens(new)), cache)
        counts = ledger.snapshot() - before
        found[name] = {
            "flops": int(flops(counts)),
            "matmul_flops": int(matmul(counts)),
            "kinds": {kind: int(n) for kind, n in counts.cost.by_kind().items()},
            "bytes_read": {k: int(n) for k, n in counts.bytes_read.items()},
            "bytes_written": {k: int(n) for k, n in counts.bytes_written.items()},
        }
    return found


def memory(visit: Visit) -> Iterator[Result]:
    """Weights, a whole cache and a prefill: ledger, pool and driver, and what was hidden."""
    model, pool = visit.model, visit.pool
    cupy.get_default_memory_pool().free_all_blocks()
    with pool, observing(visit.ledger, pool):
        cache = model.new_cache(1, visit.config.n_positions)
        logits = model(visit.tokens(visit.prompt), cache)
        moment, live = pool.now(), visit.ledger.live_bytes
        del logits, cache
    hidden = {
        f"{path} {operation}": {"blocks": h.times, "most_bytes": h.most}
        for (path, operation), h in pool.hidden.items()
        if not path.startswith("h.") or path.startswith("h.0.")
    }
    rows: list[Row] = []
    for name, n in live.items():
        asked, rounded = moment.categories.get(name, (0, 0))
        exact = "to the byte" if asked == n else f"ledger {n:,}"
        rows.append((f"memory: {name}", f"{asked:,} asked", f"{rounded:,} rounded; {exact}"))
    rows.append(("memory: pool", f"{moment.pool:,}", f"{moment.used:,} of it given out"))
    rows.append(("memory: driver", f"{moment.driver:,}", f"{moment.outside:,} outside the ledger"))
    exact = all(moment.categories[name].asked == live[name] for name in ("weights", "kv_cache"))
    yield {
        "ledger": live,
        "categories": {name: b._asdict() for name, b in moment.categories.items()},
        "used": moment.used,
        "pool": moment.pool,
        "driver": moment.driver,
        "outside_the_ledger": moment.outside,
        "weights_and_cache_exact": exact,
        "peak_asked": pool.peak,
        "hidden": hidden,
        "rows": rows,
    }

"""Whether it is right: against NumPy in float32, transformers, a run on shapes, the allocator."""

from typing import Any

import cupy
import numpy as np

from counting import Counted, Ledger, ShapeArray, category, observing
from counting.views import flops, matmul
from gpu_visit.peer import peer
from gpu_visit.visit import Result, Row, Visit
from minigpt.inference.device import to_host
from minigpt.models.gpt2 import GPT2


def correctness(visit: Visit) -> Result:
    """Logits and greedy tokens on the same weights; the reference is NumPy in float32."""
    weights, tokens, count = visit.host_weights(), visit.tokens(16), 16
    with np.errstate(all="ignore"):
        host = GPT2(visit.config, weights)
        reference = host(tokens, host.new_cache(1, 16), "all")
        model = visit.model
        found = {"ours": to_host(model(tokens, model.new_cache(1, 16), "all").data)}
        greedy = {"NumPy": _greedy(host, tokens, count), "ours": _greedy(model, tokens, count)}
    if other := peer(visit):
        found["transformers"] = other.logits(tokens)
        greedy["transformers"] = other.greedy(tokens, count)
    errors = {name: _relative(logits, reference) for name, logits in found.items()}
    rows: list[Row] = [
        (
            f"logits of {name}, float16",
            f"relative error {error:.2e}",
            f"{_agree(greedy[name], greedy['NumPy'])} of {count} greedy tokens are NumPy's",
        )
        for name, error in errors.items()
    ]
    return {"relative_error": errors, "greedy": greedy, "rows": rows}


def _greedy(model: GPT2, tokens: np.ndarray, count: int) -> list[int]:
    cache, found, given = model.new_cache(1, tokens.shape[1] + count), [], tokens
    for _ in range(count):
        logits = model(given, cache)
        bare = to_host(logits.data) if isinstance(logits, Counted) else logits
        given = bare[:, -1].argmax(-1)[:, None]
        found.append(int(given[0, 0]))
    return found


def _agree(ours: list[int], theirs: list[int]) -> int:
    """Tokens before the first that differs."""
    same = [a == b for a, b in zip(ours, theirs, strict=True)]
    return same.index(False) if False in same else len(same)


def _relative(x: np.ndarray, reference: np.ndarray) -> float:
    """|x - reference| / |reference|; infinite where anything is not finite."""
    if not np.isfinite(x).all():
        return float("inf")
    return float(np.linalg.norm(x - reference) / np.linalg.norm(reference))


def counted(visit: Visit) -> Result:
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
    return {"gpu": on_gpu, "shapes": on_shapes, "equal": same, "rows": rows}


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


def memory(visit: Visit) -> Result:
    """Weights, a whole cache and a prefill: ledger, pool and driver, and what was hidden."""
    cupy.get_default_memory_pool().free_all_blocks()
    with visit.pool, observing(visit.ledger, visit.pool):
        cache = visit.model.new_cache(1, visit.config.n_positions)
        logits = visit.model(visit.tokens(visit.prompt), cache)
        moment, live = visit.pool.now(), visit.ledger.live_bytes
        del logits, cache
    hidden = {
        f"{path} {operation}": {"blocks": h.times, "most_bytes": h.most}
        for (path, operation), h in visit.pool.hidden.items()
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
    return {
        "ledger": live,
        "categories": {name: b._asdict() for name, b in moment.categories.items()},
        "used": moment.used,
        "pool": moment.pool,
        "driver": moment.driver,
        "outside_the_ledger": moment.outside,
        "weights_and_cache_exact": exact,
        "peak_asked": visit.pool.peak,
        "hidden": hidden,
        "rows": rows,
    }

"""Jobs joined where one does what two did, and no number on the way has to be stored.

What is joined is found by addresses: a job that reads exactly what another one wrote. Each result
lies in memory of its own (see `DeviceTape`), so what a job reads does not change afterwards.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minigpt.fast.cuda.job import Job, Span, linked
from minigpt.fast.cuda.source import numbers
from minigpt.fast.cuda.tape import AXES, floats
from minigpt.fast.cuda.touched import Touched
from minigpt.fast.tape import Unrecordable

NUMBERS = numbers()
COPY, ADD, MULTIPLY = (NUMBERS[name] for name in ("COPY", "ADD", "MULTIPLY"))
ACTS = tuple(NUMBERS[name] for name in ("GELU", "GELU_EXACT", "SILU", "RELU"))
PLAIN, LAYER_NORM, RMS_NORM, GATED, PARTS = (
    NUMBERS[name] for name in ("PLAIN", "LAYER_NORM", "RMS_NORM", "GATED", "PARTS")
)


def fused(jobs: Sequence[Job], result: Span, parts_of: Callable[[Job], int]) -> list[Job]:
    """Fewer jobs that write the same result and the same caches.

    Args:
        jobs: of a pass, in order.
        result: where its result lies.
        parts_of: of attention, where it may leave what its splits find; it says `splits`.

    Raises:
        Unrecordable: what attention found is not read by products alone.
    """
    left = _followed(list(jobs), result)
    writers = {job.writes[0]: job for job in left}
    for job in left:
        while job.structure == "Product" and _made_of(job, writers):
            pass
    left = _filling(_needed(left, result))
    for job in left:
        if job.structure == "Attention":
            _turning(job, writers)
    left = _needed(left, result)
    touched = Touched(left)
    for job in left:
        if job.structure == "Attention":
            _split(job, touched.readers(job.writes[:1]), parts_of)
    _meeting(left)
    linked(left)
    return left


def _dense(job: Job, array: str) -> bool:
    """Whether an array of rows lies in one piece."""
    expected, lengths = 1, [job["d"], *(job[f"length{i}"] for i in (3, 2, 1))]
    lengths.append(job["rows"] // (lengths[1] * lengths[2] * lengths[3]))
    for i, n in enumerate(lengths):
        if n != 1 and job[f"{array}{AXES - i}"] != expected:
            return False
        expected *= n
    return True


def _is_row(job: Job, n: int, code: int, *arrays: str) -> bool:
    """Whether a job does a formula to n numbers, arrays and result in one piece each."""
    return (
        job.is_a("Rows", code=code, half=0)
        and job["rows"] * job["d"] == n
        and all(_dense(job, array) for array in ("to", *arrays))
    )


# What follows a product: a bias, an activation, what it is added to.


def _followed(jobs: list[Job], result: Span) -> list[Job]:
    left: list[Job] = []
    touched = Touched(jobs)
    for job in jobs:
        last = left[-1] if left else None
        alone = last and touched.readers(last.writes) == [job] and not last.writing([result])
        if last and alone and last.structure == "Product" and _follows(last, job):
            continue
        if last and alone and last.is_a("Gathered", bias=0) and _added(last, job, last["d"]):
            last.fields["bias"] = _added(last, job, last["d"])
            _takes_over(last, job)
            continue
        left.append(job)
    return left


def _follows(product: Job, job: Job) -> bool:
    N, plain = product["N"], not product["act"] and not product["residual"]
    if other := _added(product, job, N):
        if plain and not product["bias"]:
            product.fields["bias"] = other
        elif not product["residual"]:
            product.fields["residual"] = other
        else:
            return False
    elif plain and job["code"] in ACTS and _is_row(job, N, job["code"], "a"):
        product.fields["act"] = job["code"]
    else:
        return False
    _takes_over(product, job)
    return True


def _added(job: Job, to: Job, n: int) -> int:
    """Where lies what is added to n numbers that a job wrote, 0 if this is not what `to` does."""
    if not _is_row(to, n, ADD, "a", "b"):
        return 0
    a, b, y = to["a"], to["b"], job["y"]
    return b if a == y != b else a if b == y != a else 0


def _takes_over(job: Job, last: Job) -> None:
    job.reads += [span for span in last.reads if not job.writing([span])]
    job.writes, job.fields["y"] = last.writes, last["to"]


# What a product's x is made of.


def _made_of(product: Job, writers: dict[Span, Job]) -> bool:
    """Lets a product make x itself; false where it cannot."""
    K = product["K"]
    maker = writers.get(floats(product["x"], K))
    if maker is None or product["made_of"] != PLAIN:
        return False
    if maker.is_a("Norm", rows=1, d=K):
        names = ("x", "gain", "shift", "epsilon")
        kind = LAYER_NORM if maker["shift"] else RMS_NORM
        _instead(product, maker, made_of=kind, **{k: maker.fields.get(k, 0) for k in names})
    elif _is_row(maker, K, COPY, "a"):
        _instead(product, maker, x=maker["a"])
    elif _is_row(maker, K, MULTIPLY, "a", "b"):
        gate = writers.get(floats(maker["a"], K))
        if gate and gate["code"] in ACTS and _is_row(gate, K, gate["code"], "a"):
            _instead(product, maker, made_of=GATED, x=maker["a"], up=maker["b"])
            _instead(product, gate, x=gate["a"], gate=gate["code"])
        else:
            return False
    else:
        return False
    return True


def _instead(product: Job, maker: Job, **fields: float) -> None:
    product.reads = [span for span in product.reads if span not in maker.writes] + maker.reads
    product.fields |= fields


def _needed(jobs: list[Job], result: Span) -> list[Job]:
    """Without what nobody reads any more. What is stored in 16 bits is a cache, and stays."""
    left, touched = dict.fromkeys(jobs), Touched(jobs)
    for job in reversed(jobs):
        kept = job["half"] or job.writing([result])
        if not kept and left.keys().isdisjoint(touched.readers(job.writes)):
            del left[job]
    return list(left)


# What attention does beside: the newest key and value go into the cache.


def _filling(jobs: list[Job]) -> list[Job]:
    left, touched = dict.fromkeys(jobs), Touched(jobs)
    for job in jobs:
        if job.structure != "Attention":
            continue
        caches = job.reads[1:3]
        copies = [copy for cache in caches for copy in touched.writers([cache])]
        if len(copies) != 2 or touched.readers(caches) != [job]:
            continue
        new = [_newest(copy, job, cache) for copy, cache in zip(copies, "kv", strict=True)]
        if all(new):
            job.fields |= {"new_k": new[0], "new_v": new[1]}
            job.reads = [span for span in job.reads if span not in caches]
            for copy in copies:
                job.reads += copy.reads
                job.writes = job.writes + copy.writes
                del left[copy]
    return list(left)


def _newest(copy: Job, attention: Job, cache: str) -> int:
    """Where the last key (or value) of each head is copied from, 0 if a job does something else."""
    S, D, head = attention["S"], attention["D"], attention["head"]
    heads = attention["heads"] // attention["group"]
    exact = (
        copy.is_a("Rows", code=COPY, half=1, rows=heads, d=D, to=attention[cache] + (S - 1) * D * 2)
        and (heads == 1 or _over_heads(copy, "to") == head)
        and _dense(copy, "a")
        and copy[f"to{AXES}"] == 1
    )
    return copy["a"] if exact else 0


def _over_heads(copy: Job, array: str) -> int:
    """The stride of the only axis that rows have, 0 if there are several."""
    axes = [i for i in range(1, AXES) if copy[f"length{i}"] != 1]
    first = copy["rows"] // (copy["length1"] * copy["length2"] * copy["length3"])
    axes += [0] if first != 1 else []
    return copy[f"{array}{axes[0]}"] if len(axes) == 1 else 0


class _Turn(NamedTuple):
    """What is turned, and by which cosines and sines."""

    x: int
    cos: int
    sin: int


def _turning(attention: Job, writers: dict[Span, Job]) -> None:
    """Lets attention turn its queries and its newest key itself."""
    D, heads = attention["D"], attention["heads"]
    keys = heads // attention["group"]
    q, k = floats(attention["q"], heads * D), floats(attention["new_k"], keys * D)
    queries, key = _turn(q, heads, D, writers), _turn(k, keys, D, writers)
    if queries and key and queries[1:] == key[1:]:
        attention.fields |= {"q": queries.x, "new_k": key.x, "cos": queries.cos, "sin": queries.sin}
        attention.reads = [span for span in attention.reads if span not in (q, k)]
        attention.reads += [floats(queries.x, heads * D), floats(key.x, keys * D)]
        attention.reads += [floats(queries.cos, D), floats(queries.sin, D)]


def _turn(span: Span, heads: int, D: int, writers: dict[Span, Job]) -> _Turn | None:
    """How heads (heads, D) that lie somewhere were made by `ops.rope`, None if they were not."""
    total = writers.get(span)
    if total is None or not _is_row(total, heads * D, ADD, "a", "b"):
        return None
    straight, crossed = (writers.get(floats(total[array], heads * D)) for array in "ab")
    if straight is None or crossed is None:
        return None
    half, x = D // 2, straight["a"]
    of_halves = {"code": MULTIPLY, "half": 0, "rows": 2 * heads, "d": half, "length3": 2}
    of_halves |= {"a4": 1, "b4": 1, "b3": half}
    if heads > 1:
        of_halves |= {"length2": heads, "a2": D, "b2": 0}
    fits = (
        straight.is_a("Rows", **of_halves, a3=half)
        and crossed.is_a("Rows", **of_halves, a3=-half, a=x + 4 * half)
        and _dense(straight, "to")
        and _dense(crossed, "to")
    )
    return _Turn(x, straight["b"], crossed["b"]) if fits else None


def _split(attention: Job, readers: list[Job], parts_of: Callable[[Job], int]) -> None:
    """Has the keys split, and the products that follow join what was found."""
    heads, D = attention["heads"], attention["D"]
    found = attention.writes[0]
    parts = parts_of(attention)
    lies = floats(parts, heads * attention["splits"] * (D + 2))
    for product in readers:
        if not product.is_a("Product", made_of=PLAIN, x=found.begin, K=heads * D):
            raise Unrecordable("attention is followed by no product")
        said = {"made_of": PARTS, "x": parts, "D": D, "splits": attention["splits"]}
        product.fields |= said
        product.reads = [span for span in product.reads if span != found] + [lies]
    attention.fields["y"] = parts
    attention.writes = [lies, *attention.writes[1:]]


# Who waits.


def _meeting(jobs: list[Job]) -> None:
    """Has blocks meet before each job that touches what others touch since they met last."""
    since: list[Job] = []
    for job in jobs:
        waits = any(
            job.reading(other.writes) or job.writing(other.writes) or job.writing(other.reads)
            for other in since
        )
        job.fields["meets"] = int(waits)
        since = [job] if waits else [*since, job]

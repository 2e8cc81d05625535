"""Attention, each kernel beside the NumPy line that it must equal.

`softmax(np.where(mask, q @ k.T * scale, -inf)) @ v` for B * H heads: q and y (B * H, T, D) float32;
k and v (B * H / group, S, D) of `dtype`, `head` elements from one to the next; mask (T, S). A block
of keys at a time, the maximum and the sum kept up (Milakov & Gimelshein, 2018): no score is stored,
blocks that are all masked are passed over. Scores become `np.tanh(scores / cap) * cap` unless the
cap is 0; where there are sinks (H,), each head's is one more score, whose value is nothing.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.job import STORED, job, widened
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.pointwise import exp, tanh
from minigpt.fast.kernels.types import constant, f32, i1, i8, i32, i64, pointer, vector, whole

# q, k, v, mask, y, sinks or 0, T, S, D, H, group, head, scale, cap
WORDS = "qqqqqqqqqqqqff"
_TYPES = (*[pointer] * 6, *[i64] * 6, f32, f32)

TOGETHER = 4  # queries of a head from which on it pays to take as many as fill a vector
WIDE = 4096  # numbers of a head up to which a stack has room for a tile of them
CHAINS = 8  # sums that are added to in turn


def one_by_one(module: ir.Module, target: Target, dtype: str) -> None:
    """Queries [begin, end) of B * H * T."""
    lanes, element = target.lanes, STORED[dtype]
    like = vector(f32, lanes)
    lowest = constant(-math.inf, like)
    with job(module, f"attention_{dtype}", *_TYPES) as (b, words, begin, end):
        q, k, v, mask, y, sinks, T, S, D, H, group, head, scale, cap = words
        most, summed = b.alloca(f32), b.alloca(f32)

        with b.loop(begin, end, 1) as (item, _, _):
            query, to = (b.at(base, b.mul(item, D), f32) for base in (q, y))
            offset = b.mul(b.sdiv(b.sdiv(item, T), group), head)
            ks, vs = b.at(k, offset, element), b.at(v, offset, element)
            seen = b.at(mask, b.mul(b.srem(item, T), S), i8)

            def keys(first: Any, full: bool) -> None:
                at = [b.least(b.add(first, whole(n)), b.sub(S, whole(1))) for n in range(lanes)]
                rows = [b.mul(index, D) for index in at]
                with b.loop(0, D, lanes, *[constant(0.0, like)] * lanes) as (i, dots, become):
                    part = b.read(query, i, f32, lanes)
                    for row, dot in zip(rows, dots, strict=True):
                        key = widened(b, ks, b.add(row, i), dtype, lanes)
                        become.append(b.elementwise("fma", key, part, dot))
                scores = ir.Constant(like, ir.Undefined)
                for n, dot in enumerate(dots):
                    scores = b.insert_element(scores, b.total(dot), constant(n, i32))
                scores = _squeezed(b, b.fmul(scores, b.spread(scale, lanes)), cap)
                if full:
                    allowed = b.trunc(b.read(seen, first, i8, lanes), vector(i1, lanes))
                else:
                    allowed = ir.Constant(vector(i1, lanes), ir.Undefined)
                    for n, index in enumerate(at):
                        inside = b.icmp_signed("<", b.add(first, whole(n)), S)
                        bit = b.and_(b.trunc(b.read(seen, index, i8), i1), inside)
                        allowed = b.insert_element(allowed, bit, constant(n, i32))
                scores = b.select(allowed, scores, lowest)
                here = b.largest(scores)
                with b.if_then(b.fcmp_ordered(">", here, constant(-math.inf, f32))):
                    before = b.load(most)
                    now = b.elementwise("maxnum", before, here)
                    keep = exp(b, b.spread(b.fsub(before, now), lanes))  # of the sums so far
                    p = exp(b, b.fsub(scores, b.spread(now, lanes)))
                    kept = b.fmul(b.load(summed), b.extract_element(keep, constant(0, i32)))
                    b.store(b.fadd(kept, b.total(p)), summed)
                    b.store(now, most)
                    each = [b.extract_element(p, constant(n, i32)) for n in range(lanes)]
                    each = [b.spread(one, lanes) for one in each]
                    with b.loop(0, D, lanes) as (i, _, _):
                        total = b.fmul(b.read(to, i, f32, lanes), keep)
                        for row, one in zip(rows, each, strict=True):
                            value = widened(b, vs, b.add(row, i), dtype, lanes)
                            total = b.elementwise("fma", one, value, total)
                        b.write(total, to, i, f32)

            b.store(constant(-math.inf, f32), most)
            b.store(constant(0.0, f32), summed)
            with _sink(b, sinks, b.srem(b.sdiv(item, T), H)) as score:
                b.store(score, most)
                b.store(constant(1.0, f32), summed)
            with b.loop(0, D, lanes) as (i, _, _):
                b.write(constant(0.0, like), to, i, f32)
            rest = b.and_(S, whole(-lanes))
            with b.loop(0, rest, lanes) as (first, _, _):
                keys(first, True)
            with b.loop(rest, S, lanes) as (first, _, _):
                keys(first, False)
            factors = b.spread(b.fdiv(constant(1.0, f32), b.load(summed)), lanes)
            with b.loop(0, D, lanes) as (i, _, _):
                b.write(b.fmul(b.read(to, i, f32, lanes), factors), to, i, f32)


def _squeezed(b: Builder, scores: Any, cap: Any) -> Any:
    """`np.tanh(scores / cap) * cap`, or scores as they are if the cap is 0."""
    before = b.block
    with b.if_then(b.fcmp_ordered("!=", cap, constant(0.0, f32))):
        caps = b.spread(cap, scores.type.count)
        capped = b.fmul(tanh(b, b.fdiv(scores, caps)), caps)
        inside = b.block
    found = b.phi(scores.type)
    found.add_incoming(scores, before)
    found.add_incoming(capped, inside)
    return found


@contextmanager
def _sink(b: Builder, sinks: Any, head: Any) -> Iterator[Any]:
    """Code for where there are sinks: yields the one of a head."""
    with b.if_then(b.icmp_unsigned("!=", b.ptrtoint(sinks, i64), whole(0))):
        yield b.read(sinks, head, f32)


def together(module: ir.Module, target: Target, dtype: str) -> None:
    """Tiles [begin, end) of B * H * ceil(T / lanes): queries of one head, each in its own lane.

    Nothing is added up across lanes then, and what is read of a key serves all of the queries.
    """
    with job(module, f"attention_{dtype}_together", *_TYPES) as (b, words, begin, end):
        tile = _Tile(b, words, target.lanes, dtype)
        with b.loop(begin, end, 1) as (item, _, _):
            tile.attend(item)


class _Tile:
    """Code that answers as many queries of one head as a vector has lanes.

    Queries and what they find are turned, (D, lanes): a vector is one number of each. Blocks of as
    many keys and values are made float32; `scores` of a block are a vector for each key.
    """

    def __init__(self, b: Builder, words: list[Any], lanes: int, dtype: str) -> None:
        self.b, self.lanes, self.dtype, self.wide = b, lanes, dtype, whole(lanes)
        self.q, self.k, self.v, self.mask, self.y, self.sinks, *sizes = words
        self.T, self.S, self.D, self.H, self.group, self.head, self.scale, self.cap = sizes
        like = vector(f32, lanes)
        self.lowest, self.none = constant(-math.inf, like), constant(0.0, like)
        self.turned, self.found, self.keys, self.values = (
            b.scratch(f32, b.mul(self.D, self.wide)) for _ in range(4)
        )
        self.scores = b.scratch(f32, whole(lanes * lanes))
        self.most, self.summed, self.some, self.every = map(b.alloca, (like, like, i1, i1))

    def attend(self, item: Any) -> None:
        """`softmax(np.where(mask, q @ k.T * scale, -inf)) @ v` for the queries of a tile."""
        b, T, D, wide = self.b, self.T, self.D, self.wide
        tiles = b.sdiv(b.add(T, whole(self.lanes - 1)), wide)
        which, first = b.sdiv(item, tiles), b.mul(b.srem(item, tiles), wide)
        x, to = (b.at(base, b.mul(which, b.mul(T, D)), f32) for base in (self.q, self.y))
        offset = b.mul(b.sdiv(which, self.group), self.head)
        ks, vs = (b.at(base, offset, STORED[self.dtype]) for base in (self.k, self.v))
        rows = [b.least(b.add(first, whole(n)), b.sub(T, whole(1))) for n in range(self.lanes)]
        seen = [b.at(self.mask, b.mul(row, self.S), i8) for row in rows]
        for n, row in enumerate(rows):
            with b.loop(0, D, 1) as (i, _, _):
                number = b.read(x, b.add(b.mul(row, D), i), f32)
                b.write(number, self.turned, b.add(b.mul(i, wide), whole(n)), f32)
        with b.loop(0, D, 1) as (i, _, _):
            b.write(self.none, self.found, b.mul(i, wide), f32)
        b.store(self.lowest, self.most)
        b.store(self.none, self.summed)
        with _sink(b, self.sinks, b.srem(which, self.H)) as score:
            b.store(b.spread(score, self.lanes), self.most)
            b.store(constant(1.0, self.none.type), self.summed)
        with b.loop(0, self.S, self.lanes) as (start, _, _):
            self._look(seen, start)
            with b.if_then(b.load(self.some)):
                self._score(ks, seen, start)
                self._add(vs, start)
        factors = b.fdiv(constant(1.0, self.none.type), b.load(self.summed))
        with b.loop(0, D, 1) as (i, _, _):
            place = b.mul(i, wide)
            b.write(
                b.fmul(b.read(self.found, place, f32, self.lanes), factors), self.found, place, f32
            )
        with (
            b.loop(0, b.least(wide, b.sub(T, first)), 1) as (n, _, _),
            b.loop(0, D, 1) as (i, _, _),
        ):
            number = b.read(self.found, b.add(b.mul(i, wide), n), f32)
            b.write(number, to, b.add(b.mul(b.add(first, n), D), i), f32)

    def _look(self, seen: list[Any], start: Any) -> None:
        """Whether some query sees a key of the block from `start` on, and whether all see all."""
        b = self.b
        b.store(constant(1, i1), self.some)
        b.store(constant(0, i1), self.every)
        with b.if_then(b.icmp_signed("<=", b.add(start, self.wide), self.S)):
            bits = ir.IntType(8 * self.lanes)
            marks = [b.load(b.at(row, start, i8), typ=bits, align=1) for row in seen]
            ones = constant(int.from_bytes(bytes([1] * self.lanes), "little"), bits)
            some = b.icmp_unsigned("!=", reduce(b.or_, marks), constant(0, bits))
            b.store(some, self.some)
            b.store(b.icmp_unsigned("==", reduce(b.and_, marks), ones), self.every)

    def _score(self, ks: Any, seen: list[Any], start: Any) -> None:
        """`scores = np.where(mask, q @ k.T * scale, -inf)` of a block."""
        b, lanes = self.b, self.lanes
        keys = self._float_rows(ks, self.keys, start)
        for few in range(0, lanes, CHAINS):
            with b.loop(0, self.D, 1, *[self.none] * CHAINS) as (i, totals, become):
                part = b.read(self.turned, b.mul(i, self.wide), f32, lanes)
                for key, total in zip(keys[few:], totals, strict=False):
                    number = b.spread(b.read(key, i, f32), lanes)
                    become.append(b.elementwise("fma", number, part, total))
            for n, total in enumerate(totals, few):
                score = _squeezed(b, b.fmul(total, b.spread(self.scale, lanes)), self.cap)
                b.write(score, self.scores, n * lanes, f32)
        with b.if_then(b.not_(b.load(self.every))), b.loop(0, lanes, 1) as (n, _, _):
            key = b.add(start, n)
            near = b.least(key, b.sub(self.S, whole(1)))
            for lane, row in enumerate(seen):
                place = b.add(b.mul(n, self.wide), whole(lane))
                bit = b.trunc(b.read(row, near, i8), i1)
                allowed = b.and_(bit, b.icmp_signed("<", key, self.S))
                score = b.read(self.scores, place, f32)
                score = b.select(allowed, score, constant(-math.inf, f32))
                b.write(score, self.scores, place, f32)

    def _add(self, vs: Any, start: Any) -> None:
        """`found += np.exp(scores) @ v` of a block, relative to the largest score so far."""
        b, lanes = self.b, self.lanes
        scores = [b.read(self.scores, n * lanes, f32, lanes) for n in range(lanes)]
        before = b.load(self.most)
        now = reduce(lambda x, y: b.elementwise("maxnum", x, y), scores, before)
        unseen = b.fcmp_ordered("==", now, self.lowest)
        base = b.select(unseen, self.none, now)
        keep = exp(b, b.fsub(before, base))  # of the sums so far
        ps = [exp(b, b.fsub(score, base)) for score in scores]
        b.store(now, self.most)
        b.store(reduce(b.fadd, ps, b.fmul(b.load(self.summed), keep)), self.summed)
        values = self._float_rows(vs, self.values, start)
        with b.loop(0, self.D, 1) as (i, _, _):
            place = b.mul(i, self.wide)
            total = b.fmul(b.read(self.found, place, f32, lanes), keep)
            for p, value in zip(ps, values, strict=True):
                number = b.spread(b.read(value, i, f32), lanes)
                total = b.elementwise("fma", p, number, total)
            b.write(total, self.found, place, f32)

    def _float_rows(self, base: Any, scratch: Any, start: Any) -> list[Any]:
        """Where rows (D,) of keys or values of a block are as float32, made so in `scratch`."""
        b, D, lanes = self.b, self.D, self.lanes
        last = b.sub(self.S, whole(1))
        at = [b.mul(b.least(b.add(start, whole(n)), last), D) for n in range(lanes)]
        if self.dtype == "float32":
            return [b.at(base, row, f32) for row in at]
        rows = [b.at(scratch, b.mul(whole(n), D), f32) for n in range(lanes)]
        for to, row in zip(rows, at, strict=True):
            with b.loop(0, D, lanes) as (i, _, _):
                b.write(widened(b, base, b.add(row, i), self.dtype, lanes), to, i, f32)
        return rows

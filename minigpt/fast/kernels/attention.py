"""Attention, each kernel beside the NumPy line that it must equal.

`softmax(np.where(mask, q @ k.T * scale, -inf)) @ v` for B * H heads: q and y (B * H, T, D) float32;
k and v (B * H / group, S, D) of `dtype`, `head` elements from one to the next; mask (T, S). A block
of keys at a time, the maximum and the sum kept up (Milakov & Gimelshein, 2018): no score is stored,
blocks that are all masked are passed over.
"""

import math
from functools import reduce
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.job import STORED, job, widened
from minigpt.fast.kernels.llvm import (
    Target,
    constant,
    f32,
    i1,
    i8,
    i32,
    i64,
    pointer,
    vector,
    whole,
)
from minigpt.fast.kernels.pointwise import exp

WORDS = "qqqqqqqqqqf"  # q, k, v, mask, y, T, S, D, group, head, scale
_TYPES = (pointer, pointer, pointer, pointer, pointer, i64, i64, i64, i64, i64, f32)

TOGETHER = 4  # queries of a head from which on it pays to take as many as fill a vector
WIDE = 4096  # numbers of a head up to which a stack has room for a tile of them
CHAINS = 8  # sums that are added to in turn


def one_by_one(module: ir.Module, target: Target, dtype: str) -> None:
    """Queries [begin, end) of B * H * T."""
    lanes, element = target.lanes, STORED[dtype]
    like = vector(f32, lanes)
    lowest = constant(-math.inf, like)
    with job(module, f"attention_{dtype}", *_TYPES) as (b, words, begin, end):
        q, k, v, mask, y, T, S, D, group, head, scale = words
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
                scores = b.fmul(scores, b.spread(scale, lanes))
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


def together(module: ir.Module, target: Target, dtype: str) -> None:
    """Tiles [begin, end) of B * H * ceil(T / lanes): queries of one head, each in its own lane.

    Nothing is added up across lanes then, and what is read of a key serves all of the queries.
    """
    lanes, element = target.lanes, STORED[dtype]
    like, wide = vector(f32, lanes), whole(lanes)
    lowest, none = constant(-math.inf, like), constant(0.0, like)
    with job(module, f"attention_{dtype}_together", *_TYPES) as (b, words, begin, end):
        q, k, v, mask, y, T, S, D, group, head, scale = words
        # Queries and what they find, turned: a vector is one number of each. Keys and values of a
        # block as float32. The scores of a block, a vector for each key.
        turned, found, *wider = (b.room(f32, b.mul(D, wide)) for _ in range(4))
        scores = b.room(f32, whole(lanes * lanes))
        most, summed, some, every = (b.alloca(kind) for kind in (like, like, i1, i1))

        def float_rows(base: Any, room: Any, at: list[Any]) -> list[Any]:
            """Where rows (D,) of keys or values are as float32."""
            if dtype == "float32":
                return [b.at(base, b.mul(row, D), f32) for row in at]
            rows = [b.at(room, b.mul(whole(n), D), f32) for n in range(lanes)]
            for to, row in zip(rows, at, strict=True):
                with b.loop(0, D, lanes) as (i, _, _):
                    b.write(widened(b, base, b.add(b.mul(row, D), i), dtype, lanes), to, i, f32)
            return rows

        def block(ks: Any, vs: Any, seen: list[Any], start: Any) -> None:
            """What all queries find among the keys from `start` on."""
            at = [b.least(b.add(start, whole(n)), b.sub(S, whole(1))) for n in range(lanes)]
            keys = float_rows(ks, wider[0], at)
            for few in range(0, lanes, CHAINS):
                with b.loop(0, D, 1, *[none] * CHAINS) as (i, totals, become):
                    part = b.read(turned, b.mul(i, wide), f32, lanes)
                    for key, total in zip(keys[few:], totals, strict=False):
                        number = b.spread(b.read(key, i, f32), lanes)
                        become.append(b.elementwise("fma", number, part, total))
                for n, total in enumerate(totals, few):
                    b.write(b.fmul(total, b.spread(scale, lanes)), scores, n * lanes, f32)
            with b.if_then(b.not_(b.load(every))), b.loop(0, lanes, 1) as (n, _, _):
                key = b.add(start, n)
                near = b.least(key, b.sub(S, whole(1)))
                for lane, row in enumerate(seen):
                    place = b.add(b.mul(n, wide), whole(lane))
                    bit = b.trunc(b.read(row, near, i8), i1)
                    allowed = b.and_(bit, b.icmp_signed("<", key, S))
                    score = b.read(scores, place, f32)
                    b.write(b.select(allowed, score, constant(-math.inf, f32)), scores, place, f32)
            each = [b.read(scores, n * lanes, f32, lanes) for n in range(lanes)]
            before = b.load(most)
            now = reduce(lambda x, y: b.elementwise("maxnum", x, y), each, before)
            base = b.select(b.fcmp_ordered("==", now, lowest), none, now)  # nothing seen so far
            keep = exp(b, b.fsub(before, base))  # of the sums so far
            ps = [exp(b, b.fsub(score, base)) for score in each]
            b.store(now, most)
            b.store(reduce(b.fadd, ps, b.fmul(b.load(summed), keep)), summed)
            values = float_rows(vs, wider[1], at)
            with b.loop(0, D, 1) as (i, _, _):
                total = b.fmul(b.read(found, b.mul(i, wide), f32, lanes), keep)
                for p, value in zip(ps, values, strict=True):
                    number = b.spread(b.read(value, i, f32), lanes)
                    total = b.elementwise("fma", p, number, total)
                b.write(total, found, b.mul(i, wide), f32)

        with b.loop(begin, end, 1) as (item, _, _):
            tiles = b.sdiv(b.add(T, whole(lanes - 1)), wide)
            which, first = b.sdiv(item, tiles), b.mul(b.srem(item, tiles), wide)
            x, to = (b.at(base, b.mul(which, b.mul(T, D)), f32) for base in (q, y))
            offset = b.mul(b.sdiv(which, group), head)
            ks, vs = b.at(k, offset, element), b.at(v, offset, element)
            rows = [b.least(b.add(first, whole(n)), b.sub(T, whole(1))) for n in range(lanes)]
            seen = [b.at(mask, b.mul(row, S), i8) for row in rows]
            for n, row in enumerate(rows):
                with b.loop(0, D, 1) as (i, _, _):
                    number = b.read(x, b.add(b.mul(row, D), i), f32)
                    b.write(number, turned, b.add(b.mul(i, wide), whole(n)), f32)
            with b.loop(0, D, 1) as (i, _, _):
                b.write(none, found, b.mul(i, wide), f32)
            b.store(lowest, most)
            b.store(none, summed)
            with b.loop(0, S, lanes) as (start, _, _):
                b.store(constant(1, i1), some)
                b.store(constant(0, i1), every)
                with b.if_then(b.icmp_signed("<=", b.add(start, wide), S)):
                    bits = ir.IntType(8 * lanes)
                    marks = [b.load(b.at(row, start, i8), typ=bits, align=1) for row in seen]
                    ones = constant(int.from_bytes(bytes([1] * lanes), "little"), bits)
                    b.store(b.icmp_unsigned("!=", reduce(b.or_, marks), constant(0, bits)), some)
                    b.store(b.icmp_unsigned("==", reduce(b.and_, marks), ones), every)
                with b.if_then(b.load(some)):
                    block(ks, vs, seen, start)
            factors = b.fdiv(constant(1.0, like), b.load(summed))
            with b.loop(0, D, 1) as (i, _, _):
                place = b.mul(i, wide)
                b.write(b.fmul(b.read(found, place, f32, lanes), factors), found, place, f32)
            with (
                b.loop(0, b.least(wide, b.sub(T, first)), 1) as (n, _, _),
                b.loop(0, D, 1) as (i, _, _),
            ):
                number = b.read(found, b.add(b.mul(i, wide), n), f32)
                b.write(number, to, b.add(b.mul(b.add(first, n), D), i), f32)

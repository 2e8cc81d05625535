"""What lies between products, each kernel beside the NumPy line that it must equal."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from minigpt.fast.jobs import STORED, job, vectors, widened
from minigpt.fast.llvm import (
    Builder,
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


def exp(b: Builder, x: Any) -> Any:
    """`np.exp(x)` of a vector, 0 below -87: a power of two times a polynomial (Cephes' expf)."""
    like, ints = x.type, vector(i32, x.type.count)

    def number(value: float) -> Any:
        return constant(value, like)

    def fma(*values: Any) -> Any:
        return b.elementwise("fma", *values)

    power = b.elementwise("rint", b.fmul(x, number(1 / math.log(2))))
    power = b.elementwise("maxnum", b.elementwise("minnum", power, number(127.0)), number(-126.0))
    rest = fma(power, number(-0.693359375), x)
    rest = fma(power, number(2.12194440e-4), rest)
    value = number(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5):
        value = fma(value, rest, number(coefficient))
    value = b.fadd(fma(b.fmul(rest, rest), value, rest), number(1.0))
    bits = b.shl(b.add(b.fptosi(power, ints), constant(127, ints)), constant(23, ints))
    value = b.fmul(value, b.bitcast(bits, like))
    return b.select(b.fcmp_ordered("<", x, number(-87.0)), number(0.0), value)


def gelu(b: Builder, x: Any) -> Any:
    """`0.5 * x * (1 + np.tanh(c * (x + 0.044715 * x**3)))`, for 1 + tanh(z) = 2 / (1 + exp(-2z))"""
    cube = b.fmul(b.fmul(x, x), x)
    inner = b.elementwise("fma", cube, constant(0.044715, x.type), x)
    return _sigmoid_times(b, x, b.fmul(inner, constant(-2 * math.sqrt(2 / math.pi), x.type)))


def silu(b: Builder, x: Any) -> Any:
    """`x / (1 + np.exp(-x))`"""
    return _sigmoid_times(b, x, b.fneg(x))


def _sigmoid_times(b: Builder, x: Any, minus: Any) -> Any:
    return b.fdiv(x, b.fadd(exp(b, minus), constant(1.0, x.type)))


def elementwise(module: ir.Module, target: Target, formula: Callable[[Builder, Any], Any]) -> None:
    """`y[begin:end] = formula(x[begin:end])`, in units of a vector"""
    lanes = target.lanes
    with (
        job(module, formula.__name__, pointer, pointer) as (b, (x, y), begin, end),
        vectors(b, begin, end, lanes) as i,
    ):
        b.write(formula(b, b.read(x, i, f32, lanes)), y, i, f32)


def layer_norm(module: ir.Module, target: Target) -> None:
    """`(x - x.mean(-1)) / np.sqrt(x.var(-1) + epsilon) * weight + bias`, rows [begin, end)"""
    lanes = target.lanes
    like = vector(f32, lanes)
    types = (pointer, pointer, pointer, pointer, i64, f32)
    with job(module, "layer_norm", *types) as (b, (x, weight, bias, y, d, epsilon), begin, end):
        width, none = b.sitofp(d, f32), constant(0.0, like)
        with b.loop(begin, end, 1) as (r, _, _):
            at, to = (b.at(base, b.mul(r, d), f32) for base in (x, y))
            with b.loop(0, d, lanes, none) as (i, (total,), become):
                become.append(b.fadd(total, b.read(at, i, f32, lanes)))
            mean = b.spread(b.fdiv(b.total(total), width), lanes)
            with b.loop(0, d, lanes, none) as (i, (total,), become):
                centred = b.fsub(b.read(at, i, f32, lanes), mean)
                become.append(b.elementwise("fma", centred, centred, total))
            variance = b.fadd(b.fdiv(b.total(total), width), epsilon)
            factor = b.fdiv(constant(1.0, f32), b.elementwise("sqrt", variance))
            factors = b.spread(factor, lanes)
            with b.loop(0, d, lanes) as (i, _, _):
                centred = b.fsub(b.read(at, i, f32, lanes), mean)
                scaled = b.fmul(b.fmul(centred, factors), b.read(weight, i, f32, lanes))
                b.write(b.fadd(scaled, b.read(bias, i, f32, lanes)), to, i, f32)


def rms_norm(module: ir.Module, target: Target) -> None:
    """`x / np.sqrt((x * x).mean(-1) + epsilon) * weight`, rows [begin, end)"""
    lanes = target.lanes
    types = (pointer, pointer, pointer, i64, f32)
    with job(module, "rms_norm", *types) as (b, (x, weight, y, d, epsilon), begin, end):
        width, none = b.sitofp(d, f32), constant(0.0, vector(f32, lanes))
        with b.loop(begin, end, 1) as (r, _, _):
            at, to = (b.at(base, b.mul(r, d), f32) for base in (x, y))
            with b.loop(0, d, lanes, none) as (i, (total,), become):
                part = b.read(at, i, f32, lanes)
                become.append(b.elementwise("fma", part, part, total))
            mean_square = b.fadd(b.fdiv(b.total(total), width), epsilon)
            factor = b.fdiv(constant(1.0, f32), b.elementwise("sqrt", mean_square))
            factors = b.spread(factor, lanes)
            with b.loop(0, d, lanes) as (i, _, _):
                scaled = b.fmul(b.read(at, i, f32, lanes), factors)
                b.write(b.fmul(scaled, b.read(weight, i, f32, lanes)), to, i, f32)


def attention(module: ir.Module, target: Target, dtype: str) -> None:
    """`softmax(np.where(mask, q @ k.T * scale, -inf)) @ v` for queries [begin, end) of B * H * T

    q and y (B * H, T, D) float32; k and v (B * H / group, S, D) of `dtype`, `head` elements from
    one to the next; mask (T, S). A vector of keys at a time, the maximum and the sum kept up
    (Milakov & Gimelshein, 2018): no score is stored, keys that are all masked are passed over.
    """
    lanes, element = target.lanes, STORED[dtype]
    like = vector(f32, lanes)
    lowest = constant(-math.inf, like)
    types = (pointer, pointer, pointer, pointer, pointer, i64, i64, i64, i64, i64, f32)
    with job(module, f"attention_{dtype}", *types) as (b, words, begin, end):
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

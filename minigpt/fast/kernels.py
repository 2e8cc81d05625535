"""The kernels: each a job over a range of rows, beside the NumPy line that it must equal.

A job is `job(words, begin, end)`; `words` are 64 bits each, addresses and sizes in the order that
the job unpacks them. Vectors are as wide as the target's registers; LLVM makes of them what the
processor has: AVX-512, AVX2, NEON.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from minigpt.fast.llvm import (
    BFloatType,
    Builder,
    Target,
    constant,
    f16,
    f32,
    function,
    i1,
    i8,
    i16,
    i32,
    i64,
    pointer,
    vector,
    void,
    whole,
)

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
STORED = {"float32": f32, "bfloat16": i16, "float16": f16, "int8": i8}
AHEAD = 1536  # bytes from the one in use to the one asked for: a prefetch takes that long

# A product of pairs of bfloat16, added up in float32: twice the work of one instruction.
PAIRS, PAIRS_FEATURE = "llvm.x86.avx512bf16.dpbf16ps.512", "avx512bf16"


@contextmanager
def job(module: ir.Module, name: str, *types: Any) -> Iterator[tuple[Builder, list[Any], Any, Any]]:
    """A job under construction: yields its builder, its words, begin and end."""
    with function(module, name, void, pointer, i64, i64) as (b, (words, begin, end)):
        given = [b.load(b.at(words, k, i64), typ=typ, align=8) for k, typ in enumerate(types)]
        yield b, given, begin, end
        b.ret_void()


def widened(b: Builder, base: Any, index: Any, dtype: str, lanes: int) -> Any:
    """`base[index : index + lanes].astype(float32)`"""
    stored = b.read(base, index, STORED[dtype], lanes)
    floats, ints = vector(f32, lanes), vector(i32, lanes)
    if dtype == "float32":
        return stored
    if dtype == "bfloat16":  # the upper half of a float32
        return b.bitcast(b.shl(b.zext(stored, ints), constant(16, ints)), floats)
    if dtype == "float16":
        return b.fpext(stored, floats)
    return b.sitofp(b.sext(stored, ints), floats)


def product(module: ir.Module, target: Target, dtype: str, pairs: bool = False) -> None:
    """`y[:, begin:end] = x @ rows[begin:end].astype(float32).T * scale[begin:end]`

    rows (out, d) of `dtype`, scale (out,) for int8, x (n, d) and y (n, out) float32; with `pairs`
    rows and x are bfloat16. Weights come from memory once: `block` rows of x stay in the cache
    meanwhile, and four by four rows of each meet in registers.
    """
    lanes, element = target.lanes, STORED[dtype]
    step = 32 if pairs else lanes
    line = max(step, 64 // BYTES[dtype])  # as many as a line of the cache holds
    bfloat = BFloatType()
    name = f"product_{'pairs' if pairs else dtype}"
    types = (pointer, pointer, pointer, pointer, i64, i64, i64, i64)
    with job(module, name, *types) as (b, (rows, scale, x, y, d, out, n, block), begin, end):

        def part(base: Any, i: Any, dtype: str) -> Any:
            return b.read(base, i, bfloat, 32) if pairs else widened(b, base, i, dtype, lanes)

        def add_product(w: Any, x: Any, total: Any) -> Any:
            if pairs:
                return b.intrinsic(PAIRS, total.type, total, w, x)
            return b.elementwise("fma", w, x, total)

        def tile(j: Any, x_rows: int, r: Any, w_rows: int) -> None:
            def row(base: Any, first: Any, k: int, element: Any) -> Any:
                return b.at(base, b.mul(b.add(first, whole(k)), d), element)

            xs = [row(x, j, k, i16 if pairs else f32) for k in range(x_rows)]
            ws = [row(rows, r, k, element) for k in range(w_rows)]
            totals = [constant(0.0, vector(f32, 16 if pairs else lanes))] * (x_rows * w_rows)
            done = whole(0)
            for width in (line, step) if x_rows == 1 else (step,):
                stop = b.and_(d, whole(-width))
                with b.loop(done, stop, width, *totals) as (i, totals, become):
                    for w in ws:
                        _ask_ahead(b, b.at(w, i, element))
                    now = totals
                    for at in (b.add(i, whole(k)) for k in range(0, width, step)):
                        w_parts = [part(w, at, dtype) for w in ws]
                        x_parts = [part(x_row, at, "float32") for x_row in xs]
                        pairs_ = [(x_part, w_part) for x_part in x_parts for w_part in w_parts]
                        now = [add_product(w, x, t) for (x, w), t in zip(pairs_, now, strict=True)]
                    become += now
                done = stop
            for k in range(x_rows):
                for m in range(w_rows):
                    value, column = b.total(totals[k * w_rows + m]), b.add(r, whole(m))
                    if dtype == "int8":
                        value = b.fmul(value, b.read(scale, column, f32))
                    place = b.add(b.mul(b.add(j, whole(k)), out), column)
                    b.write(value, y, place, f32)

        widths = (4, 2, 1) if lanes == 16 else (2, 1)
        with b.loop(0, n, block) as (first, _, _):
            last = b.least(b.add(first, block), n)
            for r, w_rows in _by(b, begin, end, (4, 1)):
                for j, x_rows in _by(b, first, last, widths):
                    tile(j, x_rows, r, w_rows)


def product_by_columns(module: ir.Module, target: Target, dtype: str) -> None:
    """`y[:, begin:end] = x @ columns[:, begin:end].astype(float32)`, in units of a vector

    columns (d, out) of `dtype`, as checkpoints of GPT-2 store it; x (n, d) and y (n, out) float32.
    Some rows of the weight at a time stream by while y, small, stays in the cache.
    """
    lanes, element = target.lanes, STORED[dtype]
    types = (pointer, pointer, pointer, i64, i64, i64)
    with job(module, f"product_by_columns_{dtype}", *types) as (b, words, begin, end):
        columns, x, y, d, out, n = words
        first, last = b.mul(begin, whole(lanes)), b.mul(end, whole(lanes))
        for j, x_rows in _by(b, whole(0), n, (8, 4, 2, 1)):
            ys = [b.at(y, b.mul(b.add(j, whole(k)), out), f32) for k in range(x_rows)]
            xs = [b.at(x, b.mul(b.add(j, whole(k)), d), f32) for k in range(x_rows)]
            for to in ys:
                with b.loop(first, last, lanes) as (c, _, _):
                    b.write(constant(0.0, vector(f32, lanes)), to, c, f32)
            for i, w_rows in _by(b, whole(0), d, (8 if x_rows == 1 else 4 if x_rows < 8 else 2, 1)):
                each = [b.add(i, whole(k)) for k in range(w_rows)]
                ws = [b.at(columns, b.mul(at, out), element) for at in each]
                factors = [[b.spread(b.read(row, at, f32), lanes) for at in each] for row in xs]
                with b.loop(first, last, lanes) as (c, _, _):
                    parts = [widened(b, w, c, dtype, lanes) for w in ws]
                    for to, those in zip(ys, factors, strict=True):
                        total = b.read(to, c, f32, lanes)
                        for w_part, factor in zip(parts, those, strict=True):
                            total = b.elementwise("fma", w_part, factor, total)
                        b.write(total, to, c, f32)


def _by(b: Builder, begin: Any, end: Any, widths: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """Loops over a range in steps of the first width, what is left in those of the next, …"""
    for width in widths:
        stop = b.add(begin, b.and_(b.sub(end, begin), whole(-width)))
        with b.loop(begin, stop, width) as (i, _, _):
            yield i, width
        begin = stop


def _ask_ahead(b: Builder, address: Any) -> None:
    ahead = b.at(address, AHEAD, i8)
    b.intrinsic("llvm.prefetch.p0", void, ahead, *(constant(n, i32) for n in (0, 3, 1)))


def narrow(module: ir.Module, target: Target) -> None:
    """`y[begin:end] = x[begin:end].astype(bfloat16)`, in units of a vector: to the nearest, even"""
    lanes = target.lanes
    ints = vector(i32, lanes)
    with job(module, "narrow", pointer, pointer) as (b, (x, y), begin, end):
        with b.loop(b.mul(begin, whole(lanes)), b.mul(end, whole(lanes)), lanes) as (i, _, _):
            bits = b.bitcast(b.read(x, i, f32, lanes), ints)
            upper = b.lshr(bits, constant(16, ints))
            odd = b.and_(upper, constant(1, ints))
            rounded = b.add(bits, b.add(odd, constant(0x7FFF, ints)))
            half = b.trunc(b.lshr(rounded, constant(16, ints)), vector(i16, lanes))
            b.write(half, y, i, i16)


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
    with job(module, formula.__name__, pointer, pointer) as (b, (x, y), begin, end):
        with b.loop(b.mul(begin, whole(lanes)), b.mul(end, whole(lanes)), lanes) as (i, _, _):
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

    q and y (B * H, T, D) float32; k and v (B * H / group, S, D) of `dtype`, `head` elements from one
    to the next; mask (T, S). A vector of keys at a time, the maximum and the sum kept up (Milakov &
    Gimelshein, 2018), so that no score is ever stored; keys that are all masked are passed over.
    """
    lanes, element = target.lanes, STORED[dtype]
    like = vector(f32, lanes)
    lowest = constant(-math.inf, like)
    types = (pointer, pointer, pointer, pointer, pointer, i64, i64, i64, i64, i64, f32)
    with job(module, f"attention_{dtype}", *types) as (b, words, begin, end):
        q, k, v, mask, y, T, S, D, group, head, scale = words
        most, summed = b.alloca(f32), b.alloca(f32)

        def keys(
            first: Any, query: Any, seen: Any, ks: Any, vs: Any, to: Any, whole_: bool
        ) -> None:
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
            if whole_:
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
                keep = exp(b, b.spread(b.fsub(before, now), lanes))  # what the sums so far become
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

        with b.loop(begin, end, 1) as (item, _, _):
            query, to = (b.at(base, b.mul(item, D), f32) for base in (q, y))
            offset = b.mul(b.sdiv(b.sdiv(item, T), group), head)
            ks, vs = b.at(k, offset, element), b.at(v, offset, element)
            seen = b.at(mask, b.mul(b.srem(item, T), S), i8)
            b.store(constant(-math.inf, f32), most)
            b.store(constant(0.0, f32), summed)
            with b.loop(0, D, lanes) as (i, _, _):
                b.write(constant(0.0, like), to, i, f32)
            full = b.and_(S, whole(-lanes))
            with b.loop(0, full, lanes) as (first, _, _):
                keys(first, query, seen, ks, vs, to, True)
            with b.loop(full, S, lanes) as (first, _, _):
                keys(first, query, seen, ks, vs, to, False)
            factors = b.spread(b.fdiv(constant(1.0, f32), b.load(summed)), lanes)
            with b.loop(0, D, lanes) as (i, _, _):
                b.write(b.fmul(b.read(to, i, f32, lanes), factors), to, i, f32)


def everything(module: ir.Module, target: Target) -> None:
    """All kernels, and the pool that shares them out."""
    from minigpt.fast.pool import sharing

    sharing(module, target)
    for dtype in STORED:
        product(module, target, dtype)
    for dtype in ("float32", "bfloat16", "float16"):
        product_by_columns(module, target, dtype)
        attention(module, target, dtype)
    if PAIRS_FEATURE in target.features:
        product(module, target, "bfloat16", pairs=True)
    narrow(module, target)
    for formula in (gelu, silu):
        elementwise(module, target, formula)
    layer_norm(module, target)
    rms_norm(module, target)

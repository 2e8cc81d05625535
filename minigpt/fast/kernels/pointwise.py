"""Activations and norms, each kernel beside the NumPy line that it must equal."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.job import job
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.types import constant, f32, i16, i32, i64, pointer, vector, whole

LARGEST = 32767.0  # of x in 16 bits
TINY = 1e-30  # below it a row is nothing: LARGEST divided by it is no float32


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


# As `ops.gelu_exact` has them: the tail of the normal distribution.
_TAIL = (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)


def gelu_exact(b: Builder, x: Any) -> Any:
    """`np.maximum(x, 0) - z * tail(z)`, z = abs(x), tail(z) = t * P(t) * np.exp(-z**2 / 2) / c"""

    def number(value: float) -> Any:
        return constant(value, x.type)

    z = b.elementwise("fabs", x)
    t = b.fdiv(number(1.0), b.elementwise("fma", number(0.2316419), z, number(1.0)))
    tail = number(_TAIL[-1])
    for coefficient in _TAIL[-2::-1]:
        tail = b.elementwise("fma", t, tail, number(coefficient))
    density = b.fmul(exp(b, b.fmul(b.fmul(x, x), number(-0.5))), number((2 * math.pi) ** -0.5))
    return b.fsub(relu(b, x), b.fmul(z, b.fmul(b.fmul(t, tail), density)))


def relu(b: Builder, x: Any) -> Any:
    """`np.maximum(x, 0)`; NaN stays."""
    none = constant(0.0, x.type)
    return b.select(b.fcmp_ordered("<", x, none), none, x)


def tanh(b: Builder, x: Any) -> Any:
    """`np.tanh(x)` of a vector: 1 - 2 / (exp(2 x) + 1), near 0 a polynomial (Cephes' tanhf)."""

    def number(value: float) -> Any:
        return constant(value, x.type)

    z = b.elementwise("fabs", x)
    grown = b.fadd(exp(b, b.fadd(z, z)), number(1.0))
    far = b.fsub(number(1.0), b.fdiv(number(2.0), grown))
    square = b.fmul(x, x)
    value = number(-5.70498872745e-3)
    for coefficient in (2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1):
        value = b.elementwise("fma", value, square, number(coefficient))
    near = b.elementwise("fma", b.fmul(value, square), x, x)
    far = b.elementwise("copysign", far, x)
    return b.select(b.fcmp_ordered("<", z, number(0.625)), near, far)


def _sigmoid_times(b: Builder, x: Any, minus: Any) -> Any:
    return b.fdiv(x, b.fadd(exp(b, minus), constant(1.0, x.type)))


def elementwise(
    module: ir.Module,
    target: Target,
    name: str,
    formula: Callable[[Builder, Any], Any],
    result: Any = f32,
) -> None:
    """`y[begin:end] = formula(x[begin:end])`, in units of a vector; y of the type `result`"""
    lanes = target.lanes
    with job(module, name, pointer, pointer) as (b, (x, y), begin, end):
        first, last = b.mul(begin, whole(lanes)), b.mul(end, whole(lanes))
        with b.loop(first, last, lanes) as (i, _, _):
            b.write(formula(b, b.read(x, i, f32, lanes)), y, i, result)


def shorts(module: ir.Module, target: Target) -> None:
    """`most = abs(x).max(-1); factors = most / LARGEST; y = np.rint(x * (LARGEST / most))`, rows
    [begin, end); y in int16

    A row of (next to) nothing becomes zeros; one that is not finite stays so by its factor.
    """
    lanes, types = target.lanes, (pointer, pointer, pointer, i64)
    like = vector(f32, lanes)
    none = constant(0.0, like)
    with (
        job(module, "shorts", *types) as (b, (x, y, factors, d), begin, end),
        b.loop(begin, end, 1) as (r, _, _),
    ):
        at, to = b.at(x, b.mul(r, d), f32), b.at(y, b.mul(r, d), i16)
        with b.loop(0, d, lanes, none, none) as (i, (most, bad), become):
            part = b.read(at, i, f32, lanes)
            become += [
                b.elementwise("maxnum", most, b.elementwise("fabs", part)),
                b.elementwise("fma", part, none, bad),  # not 0 of what is not finite
            ]
        largest = b.fadd(b.largest(most), b.total(bad))
        some = b.fcmp_unordered(">", largest, constant(TINY, f32))
        factor = b.select(some, b.fdiv(largest, constant(LARGEST, f32)), constant(0.0, f32))
        b.write(factor, factors, r, f32)
        times = b.select(some, b.fdiv(constant(LARGEST, f32), largest), constant(0.0, f32))
        with b.loop(0, d, lanes) as (i, _, _):
            part = b.fmul(b.read(at, i, f32, lanes), b.spread(times, lanes))
            part = b.select(b.fcmp_ordered("ord", part, part), part, none)
            ints = b.fptosi(b.elementwise("rint", part), vector(i32, lanes))
            b.write(b.trunc(ints, vector(i16, lanes)), to, i, i16)


def mean(module: ir.Module, target: Target) -> None:
    """`x.mean(-1)`, rows [begin, end)"""
    lanes = target.lanes
    none = constant(0.0, vector(f32, lanes))
    with (
        job(module, "mean", pointer, pointer, i64) as (b, (x, y, d), begin, end),
        b.loop(begin, end, 1) as (r, _, _),
    ):
        at = b.at(x, b.mul(r, d), f32)
        with b.loop(0, d, lanes, none) as (i, (total,), become):
            become.append(b.fadd(total, b.read(at, i, f32, lanes)))
        b.write(b.fdiv(b.total(total), b.sitofp(d, f32)), y, r, f32)


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

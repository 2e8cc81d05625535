"""Activations and norms, each kernel beside the NumPy line that it must equal."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from minigpt.fast.kernels.job import job
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.types import constant, f32, i32, i64, pointer, vector, whole


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

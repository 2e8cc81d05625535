"""Products of a weight, each beside the NumPy line that it must equal."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir

from minigpt.checkpoint.dtypes import NUMPY
from minigpt.fast.kernels.job import STORED, job, widened
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.types import bf16, constant, f32, i8, i16, i64, pointer, vector, whole

LINE = 64  # bytes of the cache that come at once
AHEAD = 3072  # bytes from the one in use to the one asked for: a prefetch takes that long
CHAINS = 4  # sums that are added to in turn: an addition waits for the one before in its chain

# A product of pairs of bfloat16, added up in float32: twice the work of one instruction.
PAIRS, PAIRS_FEATURE = "llvm.x86.avx512bf16.dpbf16ps.512", "avx512bf16"


def product(module: ir.Module, target: Target, dtype: str, pairs: bool = False) -> None:
    """`y = x @ rows.astype(float32).T * scale`, tiles [begin, end): some rows of each

    rows (out, d) of `dtype`, scale (out,) for int8, x (n, d) and y (n, out) float32; with `pairs`
    rows and x are bfloat16. `share` rows of the weight meet `block` rows of x, and after them the
    next ones: both stay in the cache meanwhile. Four by four, they meet in registers.
    """
    types = (pointer, pointer, pointer, pointer, i64, i64, i64, i64, i64)
    with job(module, f"product_{'pairs' if pairs else dtype}", *types) as (b, words, begin, end):
        code, (*_, out, n, block, share) = _Product(b, words, target, dtype, pairs), words
        blocks = b.sdiv(b.add(n, b.sub(block, whole(1))), block)
        with b.loop(begin, end, 1) as (number, _, _):
            first_row = b.mul(b.sdiv(number, blocks), share)
            first = b.mul(b.srem(number, blocks), block)
            last_row, last = b.least(b.add(first_row, share), out), b.least(b.add(first, block), n)
            with b.if_else(b.icmp_signed("==", n, whole(1))) as (single, several):
                with single, b.loop(first_row, last_row, 1) as (r, _, _):
                    code.alone(r)
                with several:
                    for r, w_rows in _by(b, first_row, last_row, (4, 1)):
                        widths = (4, 2, 1) if target.lanes == 16 else (2, 1)
                        for j, x_rows in _by(b, first, last, widths):
                            code.tile(j, x_rows, r, w_rows)


class _Product:
    """Code for `product`: one row of x with one of the weight, or some with some."""

    def __init__(
        self, b: Builder, words: list[Any], target: Target, dtype: str, pairs: bool
    ) -> None:
        self.rows, self.scale, self.x, self.y, self.d, self.out, *_ = words
        self.b, self.dtype, self.pairs, self.lanes = b, dtype, pairs, target.lanes
        self.step = 32 if pairs else self.lanes
        self.none = constant(0.0, vector(f32, 16 if pairs else self.lanes))

    def alone(self, r: Any) -> None:
        """One row of x: weights stream by in order, in four chains of additions."""
        b, w = self.b, self._weight(r)
        totals, done = [self.none] * CHAINS, whole(0)
        for chains in (CHAINS, 1):
            width = chains * self.step
            stop = b.and_(self.d, whole(-width))
            with b.loop(done, stop, width, *totals) as (i, totals, become):
                for line in range(0, width * NUMPY[self.dtype].itemsize, LINE):
                    b.prefetch(b.at(b.at(w, i, STORED[self.dtype]), AHEAD + line, i8))
                become += totals
                for k in range(chains):
                    at = b.add(i, whole(k * self.step))
                    parts = self._part(w, at, self.dtype), self._part(self.x, at, "float32")
                    become[k] = self._add_product(*parts, totals[k])
            done = stop
        self._finish(reduce(b.fadd, totals), whole(0), r)

    def tile(self, j: Any, x_rows: int, r: Any, w_rows: int) -> None:
        """Some rows of x with some of the weight, each with each, in registers."""
        b = self.b
        js, rs = (
            [b.add(first, whole(k)) for k in range(n)] for first, n in ((j, x_rows), (r, w_rows))
        )
        given = i16 if self.pairs else f32
        xs = [b.at(self.x, b.mul(at, self.d), given) for at in js]
        ws = [self._weight(at) for at in rs]
        later = [self._weight(b.add(at, whole(w_rows))) for at in rs]
        with b.loop(0, self.d, self.step, *[self.none] * (x_rows * w_rows)) as (i, totals, become):
            for w in later:
                b.prefetch(b.at(w, i, STORED[self.dtype]))
            w_parts = [self._part(w, i, self.dtype) for w in ws]
            x_parts = [self._part(x, i, "float32") for x in xs]
            each = [(w, x) for x in x_parts for w in w_parts]
            become += [
                self._add_product(w, x, total) for (w, x), total in zip(each, totals, strict=True)
            ]
        for total, (at, to) in zip(totals, [(at, to) for at in js for to in rs], strict=True):
            self._finish(total, at, to)

    def _weight(self, row: Any) -> Any:
        return self.b.at(self.rows, self.b.mul(row, self.d), STORED[self.dtype])

    def _part(self, base: Any, i: Any, dtype: str) -> Any:
        if self.pairs:
            return self.b.read(base, i, bf16, 32)
        return widened(self.b, base, i, dtype, self.lanes)

    def _add_product(self, w: Any, x: Any, total: Any) -> Any:
        if self.pairs:
            return self.b.intrinsic(PAIRS, total.type, total, w, x)
        return self.b.elementwise("fma", w, x, total)

    def _finish(self, totals: Any, j: Any, r: Any) -> None:
        """`y[j, r] = totals.sum() * scale[r]`"""
        b, value = self.b, self.b.total(totals)
        if self.dtype == "int8":
            value = b.fmul(value, b.read(self.scale, r, f32))
        b.write(value, self.y, b.add(b.mul(j, self.out), r), f32)


def product_by_columns(module: ir.Module, target: Target, dtype: str) -> None:
    """`y[:, begin:end] = x @ columns[:, begin:end].astype(float32)`, in units of a vector

    columns (d, out) of `dtype`, as checkpoints of GPT-2 store it; x (n, d) and y (n, out) float32.
    Eight rows of the weight at a time pass once from memory, while y, small, stays in the cache.
    """
    lanes, element = target.lanes, STORED[dtype]
    types = (pointer, pointer, pointer, i64, i64, i64)
    with job(module, f"product_by_columns_{dtype}", *types) as (b, words, begin, end):
        columns, x, y, d, out, n = words
        first, last = b.mul(begin, whole(lanes)), b.mul(end, whole(lanes))

        def rows(base: Any, start: Any, number: int, width: Any, element: Any) -> list[Any]:
            each = (b.mul(b.add(start, whole(k)), width) for k in range(number))
            return [b.at(base, at, element) for at in each]

        with b.loop(0, n, 1) as (j, _, _), b.loop(first, last, lanes) as (c, _, _):
            b.write(constant(0.0, vector(f32, lanes)), y, b.add(b.mul(j, out), c), f32)
        for i, w_rows in _by(b, whole(0), d, (8, 1)):
            ws = rows(columns, i, w_rows, out, element)
            for j, x_rows in _by(b, whole(0), n, (4, 1)):
                xs, ys = rows(x, j, x_rows, d, f32), rows(y, j, x_rows, out, f32)
                ks = [b.add(i, whole(k)) for k in range(w_rows)]
                factors = [[b.spread(b.read(base, k, f32), lanes) for k in ks] for base in xs]
                with b.loop(first, last, lanes) as (c, _, _):
                    parts = [widened(b, w, c, dtype, lanes) for w in ws]
                    for to, those in zip(ys, factors, strict=True):
                        total = b.read(to, c, f32, lanes)
                        for part, factor in zip(parts, those, strict=True):
                            total = b.elementwise("fma", part, factor, total)
                        b.write(total, to, c, f32)


def _by(b: Builder, begin: Any, end: Any, widths: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """Loops over a range in steps of the first width, what is left in those of the next, …"""
    for width in widths:
        stop = b.add(begin, b.and_(b.sub(end, begin), whole(-width)))
        with b.loop(begin, stop, width) as (i, _, _):
            yield i, width
        begin = stop

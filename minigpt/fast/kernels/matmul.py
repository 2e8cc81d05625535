"""Products of a weight, each beside the NumPy line that it must equal."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

from llvmlite import ir

from minigpt.checkpoint.dtypes import NUMPY
from minigpt.fast.kernels.job import STORED, job, widened
from minigpt.fast.kernels.llvm import Builder, Target
from minigpt.fast.kernels.types import (
    bf16,
    constant,
    f32,
    i8,
    i16,
    i32,
    i64,
    pointer,
    vector,
    whole,
)

LINE = 64  # bytes of the cache that come at once
AHEAD = 3072  # bytes from the one in use to the one asked for: a prefetch takes that long
CHAINS = 4  # sums that are added to in turn: an addition waits for the one before in its chain

# What multiplies pairs of numbers of 16 bits and adds the two products up, in one instruction.
PAIRS, PAIRS_FEATURE = "llvm.x86.avx512bf16.dpbf16ps.512", "avx512bf16"  # of bfloat16, in float32
SHORTS = {16: "llvm.x86.avx512.pmaddw.d.512", 8: "llvm.x86.avx2.pmadd.wd"}  # of integers, by lanes
SHORTS_FEATURE = {16: "avx512bw", 8: "avx2"}

BLOCK = 48  # rows of x of which a segment stays in the second cache while weights pass by
STRIP = 4  # rows of the weight of which a segment stays in the first while rows of x pass by
SEGMENT = 3072  # bytes of a row at most: a strip of them, and as many rows of x, fit 24 KiB
FEW = 8  # rows of x for which no strip is made

# Rows of x in a tile, and in tiles of what is left; by lanes, as registers suffice for its sums.
TILES: dict[int, tuple[int, ...]] = {16: (4, 2, 1), 8: (3, 2, 1)}
TILES_OF_SHORTS = {16: (4, 2, 1), 8: (2, 1)}  # a product takes a register too
TILES_BY_COLUMNS = 4, 1


def product(module: ir.Module, target: Target, dtype: str, unit: str = "") -> None:
    """`y = x @ rows.astype(float32).T * scale`, tiles [begin, end): some rows of each

    rows (out, d) of `dtype`, scale (out,) for int8, x (n, d) and y (n, out) float32. With a unit,
    more than one row of x: with "pairs" rows and x are bfloat16; with "shorts" rows are int8 and x
    is int16, times a factor of each of its rows, (n,), exact in integers.

    `share` rows of the weight meet BLOCK rows of x, and after them the next ones, a segment of all
    at a time; BLAS does so too. A segment is even, and at most `SEGMENT` bytes of a row.
    """
    types = (pointer, pointer, pointer, pointer, pointer, i64, i64, i64, i64, i64)
    with job(module, f"product_{unit or dtype}", *types) as (b, words, begin, end):
        kind = {"": _Product, "pairs": _Pairs, "shorts": _Shorts}[unit]
        code, (*_, out, n, share, _) = kind(b, words, target, dtype), words
        blocks = b.sdiv(b.add(n, whole(BLOCK - 1)), whole(BLOCK))
        several = b.icmp_signed(">", n, whole(1))
        with b.loop(begin, end, 1) as (number, _, _):
            first_row = b.mul(b.sdiv(number, blocks), share)
            first = b.mul(b.srem(number, blocks), whole(BLOCK))
            last_row = b.least(b.add(first_row, share), out)
            last = b.least(b.add(first, whole(BLOCK)), n)
            with b.if_then(several):
                code.several(first, last, first_row, last_row)
            if not unit:
                with b.if_then(b.not_(several)), b.loop(first_row, last_row, 1) as (r, _, _):
                    code.alone(r)


class _Product:
    """Code for `product`: one row of x with one of the weight, or some with some."""

    given: Any = f32  # what is multiplied
    together = 1  # products that an instruction adds up in a lane

    def __init__(self, b: Builder, words: list[Any], target: Target, dtype: str) -> None:
        self.rows, self.scale, self.x, self.factors, self.y, self.d, self.out, *_ = words
        self.segment = words[-1]
        self.b, self.dtype, self.lanes = b, dtype, target.lanes
        self.step = self.lanes * self.together
        self.widths = TILES[self.lanes]
        self.nothing = constant(0.0, vector(f32, self.lanes))
        self.strip = b.scratch(i8, whole(STRIP * SEGMENT))

    def alone(self, r: Any) -> None:
        """One row of x: weights stream by in order, in four chains of additions."""
        b, w = self.b, self._weight(r)
        totals, done = [self.nothing] * CHAINS, whole(0)
        for chains in (CHAINS, 1):
            width = chains * self.step
            stop = b.and_(self.d, whole(-width))
            with b.loop(done, stop, width, *totals) as (i, totals, become):
                for line in range(0, width * NUMPY[self.dtype].itemsize, LINE):
                    b.prefetch(b.at(b.at(w, i, STORED[self.dtype]), AHEAD + line, i8))
                become += totals
                for k in range(chains):
                    at = b.add(i, whole(k * self.step))
                    parts = self.w_part(w, at), self.x_part(self.x, at)
                    become[k] = self.add_product(*parts, totals[k])
            done = stop
        self._finish(b.total(reduce(b.fadd, totals)), whole(0), r)

    def several(self, first: Any, last: Any, first_row: Any, last_row: Any) -> None:
        """Rows of x from `first` to `last` with some of the weight, segment by segment."""
        b = self.b
        few = b.icmp_signed("<=", b.sub(last, first), whole(FEW))
        with b.loop(0, self.d, self.segment) as (start, _, _):
            size = b.least(b.sub(self.d, start), self.segment)
            for r, w_rows in _by(b, first_row, last_row, (STRIP, 1)):
                ws = [
                    b.at(self._weight(b.add(r, whole(k))), start, STORED[self.dtype])
                    for k in range(w_rows)
                ]
                with b.if_else(few) as (at_once, in_strips):
                    with at_once:
                        for j, x_rows in _by(b, first, last, self.widths):
                            self._tile(j, x_rows, r, w_rows, start, size, ws)
                    with in_strips:
                        self._fill(ws, size)
                        for j, x_rows in _by(b, first, last, self.widths):
                            self._tile(j, x_rows, r, w_rows, start, size)

    def _fill(self, ws: list[Any], size: Any) -> None:
        """The strip: `w[i : i + step]` of each of some rows `ws`, as it is multiplied, for each i.

        One after the other, they never take each other's place in the cache.
        """
        b = self.b
        with b.loop(0, size, self.step) as (i, _, _):
            for k, w in enumerate(ws):
                self._prefetch_below(w, len(ws), i)
                at = b.add(b.mul(i, whole(len(ws))), whole(k * self.step))
                b.write(self.w_part(w, i), self.strip, at, self.given)

    def _tile(
        self,
        j: Any,
        x_rows: int,
        r: Any,
        w_rows: int,
        start: Any,
        size: Any,
        ws: list[Any] | None = None,
    ) -> None:
        """A segment of some rows of x, each with each row of the strip, in registers.

        Args:
            ws: where the rows of the weight are, if there is no strip of them.
        """
        b = self.b
        js = [b.add(j, whole(k)) for k in range(x_rows)]
        xs = [b.at(self.x, b.add(b.mul(at, self.d), start), self.given) for at in js]
        totals = [self.nothing] * (x_rows * w_rows)
        with b.loop(0, size, self.step, *totals) as (i, totals, become):
            x_parts = [self.x_part(x, i) for x in xs]
            strip = b.at(self.strip, b.mul(i, whole(w_rows)), self.given)
            for k in range(w_rows):
                if ws:
                    self._prefetch_below(ws[k], w_rows, i)
                    part = self.w_part(ws[k], i)
                else:
                    part = self.x_part(strip, whole(k * self.step))
                become += [
                    self.add_product(part, x, total)
                    for x, total in zip(x_parts, totals[k * x_rows :], strict=False)
                ]
        for k, at in enumerate(js):
            found = [self.floats(total) for total in totals[k::x_rows]]
            self._finish(b.totals(found) if w_rows == STRIP else b.total(found[0]), at, r, start)

    def _prefetch_below(self, w: Any, rows: int, i: Any) -> None:
        """Asks for what lies so many rows of the weight below `w[i]`: the next ones to come."""
        below = self.b.at(w, self.b.mul(self.d, whole(rows)), STORED[self.dtype])
        self.b.prefetch(self.b.at(below, i, STORED[self.dtype]))

    def _weight(self, row: Any) -> Any:
        return self.b.at(self.rows, self.b.mul(row, self.d), STORED[self.dtype])

    def w_part(self, w: Any, i: Any) -> Any:
        """`w[i : i + step]`, as it is multiplied."""
        return widened(self.b, w, i, self.dtype, self.lanes)

    def x_part(self, x: Any, i: Any) -> Any:
        """`x[i : i + step]`"""
        return self.b.read(x, i, self.given, self.step)

    def add_product(self, w: Any, x: Any, total: Any) -> Any:
        """Lanes of sums, a product more in each, or the sum of some."""
        return self.b.elementwise("fma", w, x, total)

    def floats(self, total: Any) -> Any:
        """Such lanes as float32."""
        return total

    def scaled(self, value: Any, j: Any, r: Any, k: int) -> Any:
        """Sums of row j of x with k rows of the weight from r on, as they are in the product."""
        return (
            self.b.fmul(value, self.b.read(self.scale, r, f32, k))
            if self.dtype == "int8"
            else value
        )

    def _finish(self, value: Any, j: Any, r: Any, start: Any = None) -> None:
        """`y[j, r : r + k] = value`, scaled, of k values or one, added to earlier segments'"""
        b, at = self.b, self.b.add(self.b.mul(j, self.out), r)
        k = value.type.count if isinstance(value.type, ir.VectorType) else 0
        value = self.scaled(value, j, r, k)
        if start is not None:
            before = b.read(self.y, at, f32, k)
            first = b.icmp_signed("==", start, whole(0))
            value = b.fadd(b.select(first, constant(0.0, before.type), before), value)
        b.write(value, self.y, at, f32)


class _Pairs(_Product):
    """The same of bfloat16."""

    given, together = bf16, 2

    def w_part(self, w: Any, i: Any) -> Any:
        return self.x_part(w, i)

    def add_product(self, w: Any, x: Any, total: Any) -> Any:
        return self.b.intrinsic(PAIRS, total.type, total, w, x)


class _Shorts(_Product):
    """The same of int8 and int16, added up as integers.

    At each step a lane gets two products, of at most 127 * 32767: over a segment, SEGMENT // 2
    numbers in steps of 16 or more, its sum stays below 2**31.
    """

    given, together = i16, 2

    def __init__(self, b: Builder, words: list[Any], target: Target, dtype: str) -> None:
        super().__init__(b, words, target, dtype)
        self.widths = TILES_OF_SHORTS[self.lanes]
        self.nothing = constant(0, vector(i32, self.lanes))

    def w_part(self, w: Any, i: Any) -> Any:
        return self.b.sext(self.b.read(w, i, i8, self.step), vector(i16, self.step))

    def add_product(self, w: Any, x: Any, total: Any) -> Any:
        return self.b.add(total, self.b.intrinsic(SHORTS[self.lanes], total.type, w, x))

    def floats(self, total: Any) -> Any:
        return self.b.sitofp(total, vector(f32, self.lanes))

    def scaled(self, value: Any, j: Any, r: Any, k: int) -> Any:
        factor = self.b.read(self.factors, j, f32)
        value = self.b.fmul(value, self.b.spread(factor, k) if k else factor)
        return super().scaled(value, j, r, k)


def segment(d: int, itemsize: int, step: int) -> int:
    """Numbers of a segment: rows of d in as few equal parts as fit, in steps."""
    parts = -(-d * itemsize // SEGMENT)
    return -(-d // parts // step) * step


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
            for j, x_rows in _by(b, whole(0), n, TILES_BY_COLUMNS):
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
    """Loops over a range in steps of the first width, what is left in those of the next, …

    Two twos are less work than a three and a one.
    """
    for width in widths:
        rest = b.srem(b.sub(end, begin), whole(width))
        if width == 3:
            one = b.and_(
                b.icmp_signed("==", rest, whole(1)), b.icmp_signed(">", end, b.add(begin, whole(1)))
            )
            rest = b.select(one, whole(4), rest)
        stop = b.sub(end, rest)
        with b.loop(begin, stop, width) as (i, _, _):
            yield i, width
        begin = stop

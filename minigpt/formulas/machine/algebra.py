"""How many operations more than counted each kernel executes: algebra in the sizes of its job.

Each formula is what the code of a kernel in `fast/kernels` does more, or less, than the NumPy line
that it is counted as. What LLVM makes of that code does not depend on the processor but for the
lanes of its vectors; where it does, `ADDING_UP` and its like say so.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from minigpt.fast.kernels import matmul, rows
from minigpt.fast.kernels.job import STORED

# Lanes of additions that LLVM adds up one vector with, by its lanes: halves of it, then of four
# lanes the upper two as four more, one, and the 0 that a sum begins with.
ADDING_UP = {16: 16 + 4 + 4 + 1 + 1, 8: 4 + 4 + 1 + 1}
# The same of four vectors at once: three of neighbours, then halves.
ADDING_UP_FOUR = {16: 3 * 16 + 8 + 4, 8: 3 * 8 + 4}
CHOOSING = {16: 1, 8: 2}  # comparisons that two choices by one condition take: a mask serves both
EXP = 24  # operations of `pointwise.exp` a lane: 8 fused, 3 products, 1 sum, 3 comparisons, 1 round


def _by_rows(arrays: int) -> str:
    """The words of `rows.by_rows`: strides of an array are its name's with a number, or `step`."""
    names = ("to", "a", "b")[:arrays]
    strides = [f"{name}_{at}" for name in names for at in (*range(rows.AXES), "step")]
    return " ".join([*names, "d", *(f"length_{axis}" for axis in range(1, rows.AXES)), *strides])


WORDS = {  # of a job, in order
    "product": "w scale x factors y d out n share segment",
    "product_by_columns": "w x y d out n",
    "attention": "q k v mask y sinks T S D H group head scale cap",
    "layer_norm": "x weight bias y d epsilon",
    "rms_norm": "x weight y d epsilon",
    "mean": "x y d",
    "shorts": "x y factors d",
    "gathered": "w scale index to d",
    "position": "to n",
    **{name: _by_rows(1 + operands) for name, (_, operands, _) in rows.FORMULAS.items()},
}
ELEMENTWISE = "x y"


LETTERS = (
    "L lanes of a vector; R, F lanes that adding up one vector, or four, takes; E operations of an "
    "exp; of a product of n rows: out sums of d products each, in G segments, J vectors joined; of "
    "attention: Q queries, S keys, N with the last block filled up, B blocks, V of them not masked "
    "in all, A tiles of L queries; n elsewhere: elements, of rows of d, v of them in whole vectors"
)


class Call(NamedTuple):
    """A job: its kernel, its words by name, and how many items it went over.

    Attributes:
        lanes: of the kernel's vectors.
        sizes: what formulas are written in.
    """

    kernel: str
    words: Mapping[str, int]
    total: int
    lanes: int
    sizes: Mapping[str, int]


class Term(NamedTuple):
    """A reason why a kernel executes other than what is counted, and by how much.

    Attributes:
        formula: in `Call.sizes`.
    """

    why: str
    formula: str


def family(kernel: str) -> str:
    """The kernel without the dtype that it is compiled for: `product` of `product_int8`."""
    stem, _, last = kernel.removesuffix("_together").rpartition("_")
    return stem if stem and kernel not in WORDS and last in (*STORED, "pairs", "shorts") else kernel


def read(kernel: str, words: int | bytes, total: int, lanes: int) -> Call:
    """A job, read before it runs.

    Args:
        words: of 64 bits each, or where they are.
        lanes: of the kernel's vectors.
    """
    names = WORDS.get(family(kernel), ELEMENTWISE).split()
    data = words if isinstance(words, bytes) else ctypes.string_at(words, 8 * len(names))
    named = dict(zip(names, np.frombuffer(data, np.int64).tolist(), strict=False))
    common = {"L": lanes, "E": EXP, "M": CHOOSING[lanes]}
    common |= {"R": ADDING_UP[lanes], "F": ADDING_UP_FOUR[lanes]}
    made = _SIZES.get(family(kernel), _elements)
    return Call(kernel, named, total, lanes, common | made(kernel, named, total, lanes))


def _elements(kernel: str, words: Mapping[str, int], total: int, lanes: int) -> dict[str, int]:
    d = words.get("d", lanes)
    dense = all(words.get(f"{name}_step", 1) == 1 for name in ("to", "a", "b"))
    return {"n": total * d, "v": total * (d // lanes * lanes) * dense, "rows": total, "d": d}


def _product(kernel: str, words: Mapping[str, int], total: int, lanes: int) -> dict[str, int]:
    d, out, n, segment = (words.get(name, 0) for name in ("d", "out", "n", "segment"))
    segments = -(-d // segment) if segment and n > 1 else 1
    joined = matmul.CHAINS - 1 if d >= matmul.CHAINS * lanes else 1  # vectors of sums, to the first
    sizes = {"d": d, "out": out, "n": n, "G": segments, "J": joined}
    return sizes | {"W": _passes(kernel, n, lanes)}


def _passes(kernel: str, n: int, lanes: int) -> int:
    """How often a product of n rows of x reads each number of the weight."""
    if family(kernel) == "product_by_columns":
        return len(list(tiles(n, matmul.TILES_BY_COLUMNS)))
    if n == 1:
        return 1
    widths = (matmul.TILES_OF_SHORTS if kernel.endswith("shorts") else matmul.TILES)[lanes]
    blocks = [min(matmul.BLOCK, n - i) for i in range(0, n, matmul.BLOCK)]
    return sum(1 if m > matmul.FEW else len(list(tiles(m, widths))) for m in blocks)


def tiles(n: int, widths: tuple[int, ...]) -> Iterator[int]:
    """n rows in tiles of the first width, what is left in those of the next; 3 + 1 as 2 + 2."""
    for width in widths:
        rest = n % width
        if width == 3 and rest == 1 and n > 1:
            rest = 4
        yield from [width] * ((n - rest) // width)
        n = rest


def _attention(kernel: str, words: Mapping[str, int], total: int, lanes: int) -> dict[str, int]:
    T, S, D = (words[name] for name in "TSD")
    blocks = -(-S // lanes)
    seen = np.zeros((T, blocks * lanes), bool)
    seen[:, :S] = np.frombuffer(ctypes.string_at(words["mask"], T * S), bool).reshape(T, S)
    each = np.any(seen.reshape(T, blocks, lanes), axis=-1)
    sizes = {"S": S, "D": D, "N": blocks * lanes, "B": blocks}
    sizes |= {"capped": int(words["cap"] != 0), "sunk": int(words["sinks"] != 0)}
    if not kernel.endswith("_together"):
        return sizes | {"Q": total, "V": total // T * int(each.sum())}
    heads = total // -(-T // lanes)
    if S % lanes:  # whether it is masked is not asked of a block that is not full
        each[:, -1] = True
    visited = heads * sum(int(each[i : i + lanes].any(0).sum()) for i in range(0, T, lanes))
    return sizes | {"Q": heads * T, "A": total, "V": visited}


_SIZES: dict[str, Callable[[str, Mapping[str, int], int, int], dict[str, int]]] = {
    "product": _product,
    "product_by_columns": _product,
    "attention": _attention,
}

_ALONE = Term("each sum ends by adding up vectors, then lanes", "out*(J*L + R)")
_SEVERAL = Term("each sum ends by adding up its lanes", "n*G*(out//4*(F + 4) + out%4*(R + 1))")
_KEYS = "blocks of {L} keys, the last one filled up"
_LESS = "blocks that are all masked, passed over"
_COUNTED = "counted of softmax: S-1 each to compare and to sum, S each to scale, subtract, divide"
_ONE_BY_ONE = (
    Term(_KEYS, "4*Q*(N - S)*D"),
    Term(_LESS, "-2*(Q*B - V)*L*D"),
    Term("exp of each score, and of what is kept", "V*(2*E*L - L + 1) - Q*S"),
    Term("what was found is rescaled after each block", "V*D + Q*(D + 1)"),
    Term("lanes are added up and compared", "Q*B*L*R + V*R + Q*B*(2*(L - 1) + 2)"),
    Term("scaled, subtracted; the largest and the sum kept up", "Q*B*L + V*(L + 5)"),
    Term(_COUNTED, "-Q*(5*S - 2)"),
    Term("scores capped by exp", "capped*(Q*B*L*(E + 18) - 3*Q*S)"),
    Term("a sink begins the sum", "-4*sunk*Q"),
)
_TOGETHER = (
    Term(_KEYS + ", of {L} queries too", "4*V*L*L*D - 4*Q*S*D"),
    Term("exp of each score and of what is kept", "V*E*(L + 1)*L - Q*S"),
    Term("what was found is rescaled after each block", "V*D*L + A*(D + 1)*L"),
    Term("scaled, compared, subtracted, added up", "V*(5*L*L + 3*L + L//8)"),
    Term(_COUNTED, "-Q*(5*S - 2)"),
    Term("scores capped by exp", "capped*(V*L*L*(E + 18) - 3*Q*S)"),
    Term("a sink begins the sum", "-4*sunk*Q"),
)
_TERMS: dict[str, tuple[Term, ...]] = {
    "gelu": (Term("gelu by exp: 22 more an element", "22*n"),),
    "silu": (Term("silu by exp: 22 more an element", "22*n"),),
    "gelu_exact": (Term("gelu by exp, its tail fused: 21 more an element", "21*n"),),
    "tanh": (
        Term("tanh by exp and a polynomial, in fours what fills no vector", "39*v + 62*(n - v)"),
    ),
    "copy_bfloat16": (Term("rounding asks whether it is NaN", "n"),),
    "narrow": (Term("x made bfloat16 asks whether it is NaN", "n"),),
    "shorts": (Term("x made int16, which is not counted", "rows*(7*d + 2*L + R + M + 1)"),),
    "mean": (Term("lanes are added up", "rows*(R + 1)"),),
    "layer_norm": (
        Term("x less the mean twice, no division: a product", "rows*(d + 3)"),
        Term("lanes are added up twice", "2*rows*R"),
    ),
    "rms_norm": (Term("lanes are added up; 1 / sqrt once", "rows*(R + 2)"),),
}
_NONE = ["add", "subtract", "multiply", "divide", "relu", "position", "gathered"]
_NONE += ["copy_float32", "copy_float16", "product_by_columns"]


def terms(call: Call) -> tuple[Term, ...] | None:
    """Why a job executes other than what is counted; None if nobody has said that of its kernel."""
    kind, n = family(call.kernel), call.sizes.get("n", 0)
    if kind in _NONE:
        return ()
    if kind == "attention":
        return _TOGETHER if call.kernel.endswith("_together") else _ONE_BY_ONE
    if kind != "product":
        return _TERMS.get(kind)
    if n == 1:
        return (_ALONE,)
    found = [_SEVERAL]
    if call.kernel == "product_shorts":
        found.append(Term("x's own factor beside the weight's, each segment", "n*out*(2*G - 1)"))
    if call.kernel == "product_int8":
        found.append(Term("scaled in each segment", "n*out*(G - 1)"))
    return tuple(found)


def value(formula: str, sizes: Mapping[str, int]) -> int:
    """A formula of this file in numbers."""
    return int(eval(formula, {"__builtins__": {}}, dict(sizes)))

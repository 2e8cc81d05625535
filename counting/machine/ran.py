"""What the processor executed while a function ran."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COMPILED = "compiled"  # the library of machine code that lies in no file: kernels made at run time
ELSEWHERE = "elsewhere"  # bytes that belong to none of the arrays asked about
FLOATING = ("fma", "add", "mul", "div", "sqrt", "cmp", "other", "dot", "x87")
INTEGER = ("int add", "int mul", "int cmp", "int dot")
TWICE = ("fma", "dot", "int dot")  # a product and a sum a lane


@dataclass(frozen=True)
class Line:
    """An instruction of one library, and how often it ran.

    Attributes:
        library: "NumPy", "OpenBLAS", "Python", "libc", …; `COMPILED` if it lies in no file.
        text: as a disassembler writes it: "vfmadd231ps zmm0, zmm1, zmmword ptr [rax]".
        kind: what it computes in each lane, one of `FLOATING` or `INTEGER`; "" for nothing that is
            counted (moves, shuffles, logic, addresses), "unknown" if nobody could decode it.
        bits: of an element that it multiplies or adds: 32, 64, 16 for bfloat16, 80, 8; 0 without
            a kind.
        times: how often it ran.
        lanes: elements that it computed, in all; of `dot` and `int dot` pairs that it multiplied.
        masked: elements that a mask switched off, in all, beside `lanes`.
    """

    library: str
    text: str
    kind: str
    bits: int
    times: int
    lanes: int
    masked: int


@dataclass(frozen=True)
class Moved:
    """Bytes of one array that instructions loaded and stored, each time that they did."""

    read: int = 0
    written: int = 0


@dataclass(frozen=True)
class Ran:
    """What one thread of the processor executed between two moments.

    `print(ran)` shows a table; `ran.to_json()` is the same for programs. Two of them add up:
    `ran + other`.

    Attributes:
        lines: each instruction's text in each library, the most executed first.
        moved: bytes by the name of the array that was asked about, `ELSEWHERE` last.
        threads: nanoseconds that other threads of the process ran meanwhile, by "name (number)":
            what they executed is not in `lines`.
        started: threads that the function started, which are not in `lines` either.
    """

    lines: tuple[Line, ...]
    moved: Mapping[str, Moved]
    threads: Mapping[str, int]
    started: int

    @property
    def instructions(self) -> int:
        """Instructions of every kind, in all libraries."""
        raise NotImplementedError

    def lanes(self, library: str | None = None) -> Counter[tuple[str, int]]:
        """Elements computed by (kind, bits), of one library or of all: `lanes()["fma", 32]`."""
        raise NotImplementedError

    def masked(self, library: str | None = None) -> Counter[tuple[str, int]]:
        """Elements that masks switched off, in the form of `lanes`."""
        raise NotImplementedError

    def flops(self, library: str | None = None) -> int:
        """Floating-point operations: a lane is one, of `fma` and `dot` two."""
        raise NotImplementedError

    def libraries(self) -> tuple[str, ...]:
        """Libraries that ran, the one with the most instructions first."""
        raise NotImplementedError

    def __add__(self, other: "Ran") -> "Ran":
        """Both, one after the other; bytes by name, however many arrays had it."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        raise NotImplementedError

    def report(self) -> Any:
        """A table for a terminal, which `print` shows."""
        raise NotImplementedError

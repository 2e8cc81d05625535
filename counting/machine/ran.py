"""What the processor executed while a function ran."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group

from counting.table import table

COMPILED = "compiled"  # the library of machine code that lies in no file: kernels made at run time
ELSEWHERE = "elsewhere"  # bytes that belong to none of the arrays asked about
SCATTERED = "gathered"  # bytes of gathers and scatters, whose addresses are not noted
FLOATING = ("fma", "add", "mul", "div", "sqrt", "cmp", "other", "dot", "x87")
INTEGER = ("int add", "int mul", "int cmp", "int dot")
TWICE = ("fma", "dot", "int dot")  # a product and a sum a lane
MOST = 10  # instructions that a table shows
UNKNOWN = "unknown"  # the kind of what nobody could decode


@dataclass(frozen=True)
class Line:
    """An instruction of one library, and how often it ran.

    Attributes:
        library: "NumPy", "OpenBLAS", "Python", "libc", …; `COMPILED` if it lies in no file.
        text: as a disassembler writes it: "vfmadd231ps zmm0, zmm1, zmmword ptr [rax]". Targets of
            jumps are relative to the instruction.
        kind: what it computes in each lane, one of `FLOATING` or `INTEGER`; "" for nothing that is
            counted (moves, shuffles, logic, addresses), `UNKNOWN` if nobody could decode it.
        bits: of an element that it multiplies or adds: 32, 64, 16, 80, 8; 0 without a kind.
        times: how often it ran; of `rep movsb` and the like, how many elements.
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
        moved: bytes by the name of the array that was asked about; then `ELSEWHERE`, without what
            push, pop, call and ret do to the stack; `SCATTERED`, if there is any.
        threads: nanoseconds that other threads of the process ran meanwhile, by "name (number)",
            None for one that ended: what they executed is not in `lines`.
        lost: times that instructions ran without a trap, which virtual machines drop at times:
            after one, another than the next was noted. They are in none of the counts.
    """

    lines: tuple[Line, ...]
    moved: Mapping[str, Moved]
    threads: Mapping[str, int | None]
    lost: int = 0

    @property
    def instructions(self) -> int:
        """Instructions of every kind, in all libraries."""
        return sum(line.times for line in self.lines)

    def lanes(self, library: str | None = None) -> Counter[tuple[str, int]]:
        """Elements computed by (kind, bits), of one library or of all: `lanes()["fma", 32]`."""
        return self._by_kind("lanes", library)

    def masked(self, library: str | None = None) -> Counter[tuple[str, int]]:
        """Elements that masks switched off, in the form of `lanes`."""
        return self._by_kind("masked", library)

    def _by_kind(self, name: str, library: str | None) -> Counter[tuple[str, int]]:
        found = Counter[tuple[str, int]]()
        for line in self.lines:
            if line.kind not in ("", UNKNOWN) and library in (None, line.library):
                found[line.kind, line.bits] += getattr(line, name)
        return +found

    def flops(self, library: str | None = None) -> int:
        """Floating-point operations: a lane is one, of `fma` and `dot` two."""
        return sum(
            n * (2 if kind in TWICE else 1)
            for (kind, _), n in self.lanes(library).items()
            if kind in FLOATING
        )

    @property
    def libraries(self) -> dict[str, int]:
        """Instructions by library, the one with the most of them first."""
        found = Counter[str]()
        for line in self.lines:
            found[line.library] += line.times
        return dict(found.most_common())

    @property
    def unknown(self) -> int:
        """Instructions that nobody could decode: what they computed and moved is not counted."""
        return sum(line.times for line in self.lines if line.kind == UNKNOWN)

    def __add__(self, other: "Ran") -> "Ran":
        """Both, one after the other; bytes by name, however many arrays had it."""
        rows: dict[tuple[Any, ...], list[int]] = {}
        for line in (*self.lines, *other.lines):
            key = line.library, line.text, line.kind, line.bits
            row = rows.setdefault(key, [0, 0, 0])
            for i, n in enumerate((line.times, line.lanes, line.masked)):
                row[i] += n
        lines = [Line(*key, *row) for key, row in rows.items()]
        lines.sort(key=lambda line: (-line.times, line.library, line.text))
        moved = {name: self.moved.get(name, Moved()) for name in {**self.moved, **other.moved}}
        for name, more in other.moved.items():
            moved[name] = Moved(moved[name].read + more.read, moved[name].written + more.written)
        last = {name: moved.pop(name) for name in (ELSEWHERE, SCATTERED) if name in moved}
        threads = dict(self.threads)
        for name, spent in other.threads.items():
            before = threads.get(name, 0)
            threads[name] = None if before is None or spent is None else before + spent
        return Ran(tuple(lines), moved | last, threads, self.lost + other.lost)

    def to_json(self) -> str:
        """Everything, as one JSON object: `lines`, `moved`, `threads` and `lost`."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        parts: list[Any] = [f"{self.instructions:,} instructions", "", _operations(self)]
        if len(self.moved) > 1:
            parts += ["", _moved(self)]
        parts += ["", _most(self)]
        parts += ["", *notes] if (notes := _said(self)) else []
        console = Console(width=120, highlight=False, markup=False, emoji=False)
        with console.capture() as shown:
            console.print(Group(*parts))
        return "\n".join(line.rstrip() for line in shown.get().splitlines())


def _operations(ran: Ran) -> Any:
    """Rows by library, kind and width: lanes computed, lanes off, floating-point operations."""
    made = table("library", "instructions", "operation", "bits", "lanes", "masked off", "FLOP")
    for library, n in ran.libraries.items():
        lanes, masked = ran.lanes(library), ran.masked(library)
        first: tuple[str, str] = library, f"{n:,}"
        for kind, bits in sorted(lanes | masked, key=lambda key: -(lanes | masked)[key]):
            did = lanes[kind, bits]
            flop = f"{did * (1 + (kind in TWICE)):,}" if kind in FLOATING else ""
            off = f"{masked[kind, bits]:,}" if masked[kind, bits] else ""
            made.add_row(*first, kind, str(bits), f"{did:,}", off, flop)
            first = "", ""
        if first[0]:
            made.add_row(*first)
    made.add_section()
    made.add_row("total", f"{ran.instructions:,}", "", "", "", "", f"{ran.flops():,}", style="bold")
    return made


def _moved(ran: Ran) -> Any:
    """Bytes by array."""
    made = table("memory", "bytes loaded", "bytes stored")
    for name, n in ran.moved.items():
        made.add_row(name, f"{n.read:,}", f"{n.written:,}")
    return made


def _most(ran: Ran) -> Any:
    """The instructions that ran most, of those that compute."""
    made = table("most executed", "times", "in")
    computing = [line for line in ran.lines if line.kind]
    for line in (computing or list(ran.lines))[:MOST]:
        made.add_row(line.text, f"{line.times:,}", line.library)
    return made


def _said(ran: Ran) -> list[str]:
    """What the numbers leave out, a line each."""
    lines = []
    if ran.unknown:
        lines.append(f"not counted: {ran.unknown:,} instructions that could not be decoded")
    if ran.lost:
        lines.append(f"not counted: what ran {ran.lost:,} times without a trap; call it again")
    for name, spent in ran.threads.items():
        how_long = "ended meanwhile" if spent is None else f"ran {spent / 1e6:,.1f} ms meanwhile"
        lines.append(f"not counted: the thread {name}, which {how_long}")
    return lines

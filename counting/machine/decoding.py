"""An instruction's bytes, read by capstone: what it computes, and which memory it touches."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from counting.machine import kinds
from counting.machine.code import REGISTERS
from counting.machine.log import NOTHING
from counting.machine.newer import known
from counting.machine.ran import UNKNOWN

LONGEST = 15  # bytes of an instruction
RIP = -1  # as a base: the address of the instruction itself
_WIDTHS = {"zmm": 64, "ymm": 32, "xmm": 16}
_POINTED = {"byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8, "xword": 10, "tbyte": 10}
_POINTED |= {f"{name}word": width for name, width in _WIDTHS.items()}
_BY_DWORDS = re.compile(r"vp?(gather|scatter)d")
_STORES = re.compile(r"mov|p?extr|set|stmxcsr|fn?i?st")  # capstone 5 says that some of them read
_OTHERS = re.compile(r"loop|syscall|sysenter|popf")  # the system, or flags, come in between
_NO_ACCESS = re.compile(r"lea|nop|prefetch\w*|v?gatherpf\w*|clflush\w*|cldemote")


class Memory(NamedTuple):
    """An operand in memory: `base + indexed * scale + offset`, and what is done there.

    Attributes:
        base, indexed: columns of `Chunk.registers`, or `RIP`.
        size: bytes, all lanes of them.
        lanes: lanes that a mask chooses from, each with its part of the bytes; 0 for no choice.
        read, written: whether it is loaded, stored.
        repeated: whether rcx says if it runs at all (`rep movsb`).
        some: whether a vector that is not noted chooses lanes (`vmaskmovps`).
        scattered: whether each lane has an address of its own, which is not noted.
    """

    base: int
    indexed: int
    scale: int
    offset: int
    size: int
    lanes: int
    read: bool
    written: bool
    repeated: bool
    some: bool
    scattered: bool


class Instruction(NamedTuple):
    """What one instruction does.

    Attributes:
        text: as `Line.text`.
        kind: what it computes, "unknown" if nobody could decode it.
        lanes: of its result, 0 without a kind.
        mask: number of the mask register that chooses lanes, 0 for none.
        follows: bytes from it to the one that runs after it; 0 where that is not known: of jumps,
            calls, what repeats, and what nobody could decode.
    """

    text: str
    kind: kinds.Kind
    lanes: int
    mask: int
    memory: tuple[Memory, ...]
    follows: int


@cache
def _disassembler() -> Any:
    import capstone

    made = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    made.detail = True
    return made


def _first(code: bytes) -> Any:
    return next(_disassembler().disasm(code, 0), None)


@cache
def decoded(code: bytes) -> Instruction:
    """The instruction that some bytes begin with; targets of jumps are relative to it."""
    stands_for = None if (found := _first(code)) else known(code)
    if stands_for:
        found = _first(stands_for.code)
    if not found:
        return Instruction(f"? {code.hex(' ')}", kinds.Kind(UNKNOWN, 0), 0, 0, (), 0)
    *prefixes, name = found.mnemonic.split()
    text = found.op_str
    if stands_for:
        name, text = stands_for.named(name), stands_for.text(text)
    whole = " ".join([*prefixes, name, text]).strip()
    kind = kinds.kind(name)
    registers = [_WIDTHS[register] for register in re.findall(r"\b([xyz]mm)\d", text)]
    pointed = [_POINTED[pointed] for pointed in re.findall(r"(\w+) ptr ", text)]
    width = max([*registers, *pointed], default=0)
    lanes = 0
    if kind.name:
        lanes = 1 if kind.scalar else 8 * width // (kind.bits * kind.each)
    mask = int(match[1]) if (match := re.search(r"\{k([1-7])\}", text)) else 0
    memory: tuple[Memory, ...] = ()
    if not _NO_ACCESS.fullmatch(name):
        memory = tuple(_memory(found, name, text, kind, mask, registers, pointed))
    follows = 0
    if not prefixes and not _leaves(found):
        follows = found.size - (len(stands_for.code) - len(code) if stands_for else 0)
    return Instruction(whole, kind, lanes, mask, memory, follows)


def _leaves(found: Any) -> bool:
    """Whether something else may run after an instruction than the next one in memory."""
    from capstone import CS_GRP_CALL, CS_GRP_INT, CS_GRP_IRET, CS_GRP_JUMP, CS_GRP_RET

    leaving = {CS_GRP_JUMP, CS_GRP_CALL, CS_GRP_RET, CS_GRP_INT, CS_GRP_IRET}
    return not leaving.isdisjoint(found.groups) or bool(_OTHERS.match(found.mnemonic))


def _memory(
    found: Any,
    name: str,
    text: str,
    kind: kinds.Kind,
    mask: int,
    registers: list[int],
    pointed: list[int],
) -> Iterator[Memory]:
    from capstone.x86 import X86_OP_MEM

    operands = [(i, o) for i, o in enumerate(found.operands) if o.type == X86_OP_MEM]
    for k, (i, operand) in enumerate(operands):
        at, size, lanes = operand.mem, pointed[k] if k < len(pointed) else operand.size, 0
        if kind.scalar:
            size = min(size, kind.bits // 8)
        base, index = (found.reg_name(one) if one else "" for one in (at.base, at.index))
        bits = kinds.element(name)
        inside = kinds.loaded(name) if i else bits  # in memory they may have another width
        scattered = index[:3] in _WIDTHS
        if scattered:
            data, by = registers[-1 if i == 0 else 0], 32 if _BY_DWORDS.match(name) else 64
            all_lanes = min(8 * data // bits, 8 * _WIDTHS[index[:3]] // by)
            size, lanes = all_lanes * bits // 8, all_lanes if mask else 0
        elif mask and 8 * size > inside > 0 and "{1to" not in text:
            lanes = 8 * size // inside
            if i:  # where it makes narrower ones, a register may have room for more
                lanes = min(lanes, 8 * registers[0] // bits)
        if name.startswith("v") and name != "vldmxcsr":
            read, written = i > 0, i == 0
        elif i == 0 and _STORES.match(name):
            read, written = False, True
        else:
            read, written = bool(operand.access & 1), bool(operand.access & 2)
        yield Memory(
            base=RIP if base == "rip" else _column(base),
            indexed=_column(index),
            scale=at.scale,
            offset=at.disp + (found.size if base == "rip" else 0),
            size=size,
            lanes=lanes,
            read=read,
            written=written,
            repeated="rep" in found.mnemonic,
            some="maskmov" in name,
            scattered=scattered,
        )


def _column(register: str) -> int:
    return REGISTERS.index(register) if register in REGISTERS else NOTHING

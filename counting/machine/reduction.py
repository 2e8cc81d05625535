"""What was noted of a call, reduced to what ran: how often, in how many lanes, on which bytes."""

import ctypes
from collections import Counter
from collections.abc import Iterable

import numpy as np

from counting.machine.code import REGISTERS
from counting.machine.decoding import LONGEST, RIP, Instruction, Memory, decoded
from counting.machine.libraries import Mapped
from counting.machine.log import Chunk, chunks
from counting.machine.places import Places
from counting.machine.ran import Line, Ran
from counting.machine.stepper import Stepped, machine_code

_RCX = REGISTERS.index("rcx")  # a column of `Chunk.registers`
_GONE = b"\x06"  # no instruction: of code that is in memory no longer


def reduced(stepped: Stepped, places: Places) -> Ran:
    """What ran, of the notes of a call; `places` count what it moved."""
    mapped, instructions = Mapped(), dict[int, Instruction]()
    times, active = Counter[int](), Counter[int]()
    lost, expected = 0, np.uint64(0)
    for chunk in chunks(stepped.headers, stepped.values):
        addresses, which = np.unique(chunk.addresses, return_inverse=True)
        for address in addresses.tolist():
            if address not in instructions:
                instructions[address] = decoded(_code(address, mapped))
        here = [instructions[address] for address in addresses.tolist()]
        n = np.bincount(which, minlength=len(here))
        on = _lanes_on(chunk, here, which, n)
        times.update(dict(zip(addresses.tolist(), n.tolist(), strict=True)))
        active.update(dict(zip(addresses.tolist(), on, strict=True)))
        _touch(chunk, here, which, places)
        follows = np.array([what.follows for what in here], np.uint64)[which]
        due = np.where(follows, chunk.addresses + follows, 0)  # what runs after each
        meant = np.concatenate([[expected], due[:-1]])
        lost += int(np.count_nonzero((meant != 0) & (meant != chunk.addresses)))
        expected = due[-1]
    rows: dict[tuple[str, Instruction], tuple[int, int]] = {}
    own = machine_code().owns(np.array([*instructions], np.uint64))
    for address, mine in zip(instructions, own.tolist(), strict=True):
        if mine:
            continue
        key = mapped.at(address)[0], instructions[address]
        before = rows.get(key, (0, 0))
        rows[key] = before[0] + times[address], before[1] + active[address]
    lines = [
        Line(
            library,
            what.text,
            what.kind.name,
            what.kind.bits,
            n,
            on * what.kind.each,
            (n * what.lanes - on) * what.kind.each,
        )
        for (library, what), (n, on) in rows.items()
    ]
    lines.sort(key=lambda line: (-line.times, line.library, line.text))
    return Ran(tuple(lines), places.moved(), stepped.threads, lost)


def _code(address: int, mapped: Mapped) -> bytes:
    mapped_bytes = mapped.at(address)[1]
    return ctypes.string_at(address, min(LONGEST, mapped_bytes)) if mapped_bytes else _GONE


def _lanes_on(chunk: Chunk, here: list[Instruction], which: np.ndarray, n: np.ndarray) -> list[int]:
    """Lanes computed by each instruction in a chunk: all of them, or those that its mask has on."""
    on = [int(times) * what.lanes for times, what in zip(n.tolist(), here, strict=True)]
    masked = np.array([what.mask if what.lanes else 0 for what in here])
    rows = np.flatnonzero(masked[which])
    if len(rows):
        lanes = np.array([what.lanes for what in here], np.uint64)[which[rows]]
        bits = _bits(chunk, rows, masked[which[rows]], lanes)
        found = np.bincount(which[rows], bits, minlength=len(here))
        for i in np.flatnonzero(masked).tolist():
            on[i] = int(found[i])
    return on


def _bits(chunk: Chunk, rows: np.ndarray, masks: np.ndarray, lanes: np.ndarray) -> np.ndarray:
    """How many of the first `lanes` bits of a mask are on."""
    every = np.uint64(2**64 - 1) >> (np.uint64(64) - lanes)
    return np.bitwise_count(chunk.masks[rows, masks] & every).astype(np.int64)


def _touch(chunk: Chunk, here: list[Instruction], which: np.ndarray, places: Places) -> None:
    """Tells `places` of every load and store of a chunk."""
    for operand in range(max((len(what.memory) for what in here), default=0)):
        chosen = [what.memory[operand] if len(what.memory) > operand else None for what in here]
        has = np.array([at is not None for at in chosen])
        rows = np.flatnonzero(has[which])
        if not len(rows):
            continue
        of = (np.cumsum(has) - 1)[which[rows]]
        known = [at for at in chosen if at is not None]
        masks = np.array([what.mask for what, at in zip(here, chosen, strict=True) if at])
        where, size = _accesses(chunk, rows, of, known, masks, places)
        scattered = np.array([at.scattered for at in known])[of]
        for way in ("read", "written"):
            does = np.array([getattr(at, way) for at in known])[of]
            places.touch(way, where[does & ~scattered], size[does & ~scattered])
            places.scatter(way, int(size[does & scattered].sum()))


def _accesses(
    chunk: Chunk,
    rows: np.ndarray,
    of: np.ndarray,
    known: Iterable[Memory],
    masks: np.ndarray,
    places: Places,
) -> tuple[np.ndarray, np.ndarray]:
    """Addresses and sizes of accesses: `of` says which operand each of `rows` has."""
    base, index, scale, offset, size, lanes, _, _, repeated, some, _ = (
        np.array(column)[of] for column in zip(*known, strict=True)
    )
    where = np.where(base == RIP, chunk.addresses[rows], chunk.registers[rows, base])
    where = where + chunk.registers[rows, index] * scale.astype(np.uint64)
    where = where + offset.astype(np.int64).view(np.uint64)
    chosen = np.flatnonzero(lanes)
    if len(chosen):
        on = _bits(chunk, rows[chosen], masks[of[chosen]], lanes[chosen].astype(np.uint64))
        size[chosen] = size[chosen] // lanes[chosen] * on
    size[some] = places.within(where[some], size[some])
    size[repeated & (chunk.registers[rows, _RCX] == 0)] = 0
    return where, size

"""The machine code is what its listing says."""

import re

import pytest

from counting.machine import code

LISTINGS = {name: getattr(code, name) for name in ("HANDLER", "RUN", "FORWARD", "MASKS")}
FILLED = {"state": 0x1122334455667788, "call": 0x1122334455667788, "masks": 0x11223344}


def lines(listing):
    """Each line's bytes, its instruction and, of lines without bytes, the label."""
    for line in listing.strip().splitlines():
        if line.endswith(":"):
            yield b"", line[:-1]
        else:
            part, instruction, _ = line.split("|")
            for name, value in FILLED.items():
                width = 4 if name == "masks" else 8
                part = part.replace(f"{{{name}}}", value.to_bytes(width, "little").hex())
            yield bytes.fromhex(part), instruction.strip()


@pytest.mark.parametrize("name", LISTINGS)
def test_bytes_are_the_instructions_beside_them(name):
    import capstone

    labels, at, found = {}, 0, []
    for part, said in lines(LISTINGS[name]):
        if not part:
            labels[said] = at
        found.append((at, part, said))
        at += len(part)
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    for at, part, said in found:
        if not part:
            continue
        (instruction,) = disassembler.disasm(part, at)
        verb, _, target = said.partition(" ")
        meant = f"{verb} {labels[target]:#x}" if target in labels else said
        for name, value in FILLED.items():
            meant = re.sub(rf"(, |\+ ){name}\b", rf"\g<1>{value:#x}", meant)
        assert f"{instruction.mnemonic} {instruction.op_str}".strip() == meant


@pytest.mark.parametrize("name", LISTINGS)
def test_assembled_is_the_listing_filled_in(name):
    words = {word: n.to_bytes(4 if word == "masks" else 8, "little") for word, n in FILLED.items()}
    assert code.assembled(LISTINGS[name], **words) == b"".join(b for b, _ in lines(LISTINGS[name]))


def test_the_state_lies_where_the_code_looks_for_it():
    named = {"turn": 0, "header": 8, "headers": 0x10, "value": 0x18, "values": 0x20}
    named |= {"stopped": 0x28, "registers": 0x30, "masks": 0xB0, "none": 0xF0}
    named |= {"native_id": 0x130, "process": 0x138, "python": 0x140}
    assert {name: getattr(code.State, name).offset for name, _ in code.State._fields_} == named

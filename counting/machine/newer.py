"""Instructions that capstone 5 does not know, as others that it does with the same operands."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_NARROWER = {
    2: {"zmm": "ymm", "ymm": "xmm", "xmm": "xmm"},
    4: {"zmm": "xmm", "ymm": "xmm", "xmm": "xmm"},
}


class StandsFor(NamedTuple):
    """A name, and bytes of another instruction whose operands are read from the same fields.

    Attributes:
        name: "" is that of the other one, for half precision.
        of_words: whether what the other has in memory are parts of 32 bits, this one of 16.
        narrower: how many times narrower its result is than what the other one says.
    """

    name: str
    code: bytes
    of_words: bool = False
    narrower: int = 1

    def named(self, other: str) -> str:
        """Its name, given that of the other instruction: "vaddph" of "vaddps"."""
        if self.name:
            return self.name
        if other in ("vmovd", "vmovss"):
            return {"vmovd": "vmovw", "vmovss": "vmovsh"}[other]
        return re.sub(r"(?:14)?([ps])s(?=$|2u?si)|(?<=si2)(s)s", r"\1\2h", other)

    def text(self, operands: str) -> str:
        """The operands as they are of this name, given those of the other instruction."""
        if self.narrower > 1:
            of = _NARROWER[self.narrower]
            return re.sub("[xyz]mm", lambda match: of[match[0]], operands, count=1)
        if self.of_words:
            operands = operands.replace("dword ptr", "word ptr")
            return re.sub(r"\{1to(\d+)\}", lambda match: f"{{1to{2 * int(match[1])}}}", operands)
        return operands


class _Other(NamedTuple):
    """Which instruction stands for one: its map, prefix and opcode; the rest as in `StandsFor`."""

    table: int
    prefix: int
    opcode: int
    name: str = ""
    scalar: bool = False
    of_words: bool = False
    narrower: int = 1
    broadcasts: bool = True


# By map, prefix (1 for 66, 2 for F3, 3 for F2) and opcode: Intel's Instruction Set Reference.
_EVEX = {
    (2, 2, 0x52): _Other(2, 1, 0x52, "vdpbf16ps"),  # vpdpwssd: pairs of 16 bits, sums of 32
    (2, 2, 0x72): _Other(2, 1, 0x4E, "vcvtneps2bf16", narrower=2),  # vrsqrt14ps: two vectors
    (2, 3, 0x72): _Other(2, 1, 0x52, "vcvtne2ps2bf16"),
}
_VEX = {  # AVX-VNNI, as vfmadd231ps: three vectors, the last of them perhaps in memory
    (2, 1, 0x50): _Other(2, 1, 0xB8, "vpdpbusd"),
    (2, 1, 0x51): _Other(2, 1, 0xB8, "vpdpbusds"),
    (2, 1, 0x52): _Other(2, 1, 0xB8, "vpdpwssd"),
    (2, 1, 0x53): _Other(2, 1, 0xB8, "vpdpwssds"),
}

# AVX512-FP16: in maps 5 and 6 most opcodes are those of single precision in maps 1 and 2.
_HALVES = (  # map, prefix, those of single precision, opcodes of vectors, of scalars
    (5, 0, 1, 0, "51 58 59 5c 5d 5e 5f", "2e 2f"),
    (5, 2, 1, 2, "", "10 11 2c 2d 51 58 59 5c 5d 5e 5f 78 79"),
    (5, 1, 1, 1, "", "6e 7e"),
    (6, 1, 2, 1, "2c 42 4c 4e 96 97 98 9a 9c 9e", "2d 43 4d 4f 99 9b 9d 9f"),
    (6, 1, 2, 1, "a6 a7 a8 aa ac ae b6 b7 b8 ba bc be", "a9 ab ad af b9 bb bd bf"),
    (3, 0, 3, 1, "08 26 56 66", "0a 27 57 67"),
    (3, 0, 1, 0, "c2", ""),
    (3, 2, 1, 2, "", "c2"),
)


def _halves() -> Iterator[tuple[tuple[int, int, int], _Other]]:
    for table, prefix, other, by, vectors, scalars in _HALVES:
        for opcode in bytes.fromhex(vectors):
            yield (table, prefix, opcode), _Other(other, by, opcode, of_words=True)
        for opcode in bytes.fromhex(scalars):
            yield (table, prefix, opcode), _Other(other, by, opcode, scalar=True, of_words=True)


_EVEX |= dict(_halves())
_EVEX |= {  # whole numbers of general registers, in memory too
    (5, 2, opcode): _Other(1, 2, opcode, scalar=True) for opcode in (0x2A, 0x7B)
}
_CONVERSIONS: dict[_Other, dict[tuple[int, int, int], str]] = {
    _Other(1, 0, 0x51, of_words=True): {  # vsqrtps: two vectors
        (5, 1, 0x7D): "vcvtph2w",
        (5, 1, 0x7C): "vcvttph2w",
        (5, 0, 0x7D): "vcvtph2uw",
        (5, 0, 0x7C): "vcvttph2uw",
        (5, 2, 0x7D): "vcvtw2ph",
        (5, 3, 0x7D): "vcvtuw2ph",
    },
    _Other(2, 1, 0x13, broadcasts=False): {  # vcvtph2ps: from half a vector
        (6, 1, 0x13): "vcvtph2psx",
        (5, 1, 0x5B): "vcvtph2dq",
        (5, 2, 0x5B): "vcvttph2dq",
        (5, 0, 0x79): "vcvtph2udq",
        (5, 0, 0x78): "vcvttph2udq",
    },
    _Other(2, 1, 0x34, broadcasts=False): {  # vpmovzxwq: from a quarter
        (5, 0, 0x5A): "vcvtph2pd",
        (5, 1, 0x7B): "vcvtph2qq",
        (5, 1, 0x7A): "vcvttph2qq",
        (5, 1, 0x79): "vcvtph2uqq",
        (5, 1, 0x78): "vcvttph2uqq",
    },
    _Other(1, 2, 0x58, scalar=True, of_words=True): {  # vaddss: three registers
        (6, 0, 0x13): "vcvtsh2ss",
        (5, 2, 0x5A): "vcvtsh2sd",
    },
    _Other(1, 2, 0x58, scalar=True): {(5, 0, 0x1D): "vcvtss2sh"},
    _Other(1, 3, 0x58, scalar=True): {(5, 3, 0x5A): "vcvtsd2sh"},
    _Other(2, 1, 0x4E, narrower=2): {(5, 1, 0x1D): "vcvtps2phx"},
}
_EVEX |= {
    key: other._replace(name=name)
    for other, names in _CONVERSIONS.items()
    for key, name in names.items()
}
_BY_WIDTH = {  # with W and without: two of 64 bits and of 32, to half precision
    (5, 1, 0x5A): ("vcvtpd2ph", ""),
    (5, 0, 0x5B): ("vcvtqq2ph", "vcvtdq2ph"),
    (5, 3, 0x7A): ("vcvtuqq2ph", "vcvtudq2ph"),
}


def _evex(code: bytes) -> _Other | None:
    key, wide = (code[1] & 15, code[2] & 3, code[4]), bool(code[2] & 0x80)
    if key in _BY_WIDTH:
        name = _BY_WIDTH[key][not wide]
        return _Other(2, 1, 0x4E, name, narrower=4 if wide else 2) if name else None
    return _EVEX.get(key)


def known(code: bytes) -> StandsFor | None:
    """What stands for an instruction; None if that is unknown here, too."""
    if len(code) > 5 and code[0] == 0x62:
        other, place, prefix = _evex(code), 4, 2
    elif len(code) > 4 and code[0] == 0xC4:
        other, place, prefix = _VEX.get((code[1] & 31, code[2] & 3, code[3])), 3, 2
    else:
        return None
    if not other:
        return None
    made = bytearray(code)
    made[1] = made[1] & ~7 | other.table
    made[prefix] = made[prefix] & ~3 | other.prefix
    made[place] = other.opcode
    if code[0] == 0xC4:
        return StandsFor(other.name, bytes(made))
    kind, broadcast = made[5] >> 6, bool(made[3] & 0x10)
    in_memory = kind < 3
    if in_memory and broadcast and not other.broadcasts:
        return None
    if other.opcode in (0x6E, 0x7E):
        made[prefix] &= 0x7F  # W, which has no meaning here, would make it vmovq
    of_words = other.of_words and in_memory and (broadcast or other.scalar)
    if of_words and kind == 1:  # a displacement of a byte counts parts: of 16 bits, not of 32
        at = 7 if made[5] & 7 == 4 else 6  # after a byte that says base and index
        offset = 2 * int.from_bytes(made[at : at + 1], signed=True)
        made[5] ^= 0xC0  # a displacement of 4 bytes
        made[at : at + 1] = offset.to_bytes(4, "little", signed=True)
    return StandsFor(other.name, bytes(made), of_words, other.narrower)

"""Instructions that capstone 5 does not know, as others that it does with the same operands."""

import re
from typing import NamedTuple

_HALF = {"zmm": "ymm", "ymm": "xmm", "xmm": "xmm"}


class StandsFor(NamedTuple):
    """A name, and bytes of another instruction whose operands are read from the same fields."""

    name: str
    code: bytes

    def text(self, operands: str) -> str:
        """The operands as they are of this name, given those of the other instruction."""
        if self.name != "vcvtneps2bf16":
            return operands
        return re.sub("[xyz]mm", lambda match: _HALF[match[0]], operands, count=1)


# By map, prefix (1 for 66, 2 for F3, 3 for F2) and opcode: Intel's Instruction Set Reference.
_EVEX = {
    (2, 2, 0x52): ("vdpbf16ps", 1, 0x52),  # vpdpwssd: pairs of 16 bits, sums of 32
    (2, 2, 0x72): ("vcvtneps2bf16", 1, 0x4E),
    # (vrsqrt14ps: two vectors)
    (2, 3, 0x72): ("vcvtne2ps2bf16", 1, 0x52),
}
_VEX = {  # AVX-VNNI, as vfmadd231ps: three vectors, the last of them perhaps in memory
    (2, 1, 0x50): ("vpdpbusd", 1, 0xB8),
    (2, 1, 0x51): ("vpdpbusds", 1, 0xB8),
    (2, 1, 0x52): ("vpdpwssd", 1, 0xB8),
    (2, 1, 0x53): ("vpdpwssds", 1, 0xB8),
}


def known(code: bytes) -> StandsFor | None:
    """What stands for an instruction; None if that is unknown here, too."""
    if len(code) > 5 and code[0] == 0x62:
        key, place, prefix = (code[1] & 7, code[2] & 3, code[4]), 4, 2
        table = _EVEX
    elif len(code) > 4 and code[0] == 0xC4:
        key, place, prefix = (code[1] & 31, code[2] & 3, code[3]), 3, 2
        table = _VEX
    else:
        return None
    if key not in table:
        return None
    name, pp, opcode = table[key]
    made = bytearray(code)
    made[prefix] = made[prefix] & ~3 | pp
    made[place] = opcode
    return StandsFor(name, bytes(made))

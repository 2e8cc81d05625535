"""What an instruction computes in each lane of a vector, read off its name.

Moves, shuffles, logic, conversions, and whatever works on general registers, compute nothing that
is counted: integers there are mostly addresses.
"""

import re
from functools import cache
from typing import NamedTuple


class Kind(NamedTuple):
    """What a name stands for.

    Attributes:
        name: one of `ran.FLOATING` or `ran.INTEGER`; "" for nothing that is counted.
        bits: of an element, of a factor in `dot` and `int dot`; 0 without a name.
        scalar: whether there is one element, however wide the register is.
        each: elements that go into one lane of the result: 2 of `vdpbf16ps`, else 1.
    """

    name: str
    bits: int
    scalar: bool = False
    each: int = 1


NOTHING = Kind("", 0)
_FLOATS = {"ps": (32, False), "ss": (32, True), "pd": (64, False), "sd": (64, True)}
_FLOATS |= {"ph": (16, False), "sh": (16, True)}
_FLOATING = {  # of names that end so
    "fma": r"vf(n?m(add|sub)|maddsub|msubadd)\d+",
    "add": r"v?h?(add|sub)|v?addsub",
    "mul": r"v?mul",
    "div": r"v?div",
    "sqrt": r"v?sqrt",
    "cmp": r"v?(max|min|cmp\w*?|u?comi|range)",
    "other": r"v?(round|rndscale|reduce|scalef|getexp|getmant|fixupimm|r(cp|sqrt)(14|28)?|dp)",
}
_WHOLE = {"b": 8, "w": 16, "d": 32, "q": 64}
_INTEGER = {  # of names that end in b, w, d or q
    "int add": r"v?p(h?(add|sub)(s|us)?|avg)",
    "int mul": r"v?pmul(l|h|hu|hrs|u|)",
    "int cmp": r"v?p(max|min)[su]|v?pcmp(eq|gt|\w*?u?)",
}
_CONVERTED = {  # bits of what conversions take or make
    "ph": 16,
    "bf16": 16,
    "ps": 32,
    "pd": 64,
    "w": 16,
    "dq": 32,
    "qq": 64,
}
_X87 = re.compile(r"f(i?(add|sub|mul|div)r?p?|sqrt|u?comi?p*)")
_PAIRS = {  # sums of products of neighbours: bits of a factor, factors in a lane of the result
    r"vdpbf16ps": ("dot", 16, 2),
    r"v?pmaddwd|vpdpwssds?": ("int dot", 16, 2),
    r"v?pmaddubsw": ("int dot", 8, 2),
    r"vpdpbusds?": ("int dot", 8, 4),
}


@cache
def kind(name: str) -> Kind:
    """What an instruction's name stands for.

    >>> kind("vfmadd231ps")
    Kind(name='fma', bits=32, scalar=False, each=1)
    """
    for pattern, (found, bits, each) in _PAIRS.items():
        if re.fullmatch(pattern, name):
            return Kind(found, bits, each=each)
    for found, pattern in _FLOATING.items():
        if match := re.fullmatch(f"(?:{pattern})(ps|ss|pd|sd|ph|sh)", name):
            return Kind(found, *_FLOATS[match[match.re.groups]])
    for found, pattern in _INTEGER.items():
        if match := re.fullmatch(f"(?:{pattern})([bwdq])", name):
            return Kind(found, _WHOLE[match[match.re.groups]])
    return Kind("x87", 80, scalar=True) if _X87.fullmatch(name) else NOTHING


@cache
def element(name: str) -> int:
    """Bits of the elements that a mask of an instruction chooses from; 0 if its name says none.

    >>> element("vmovdqu8"), element("vpmovzxbd"), element("vmovups")
    (8, 32, 32)
    """
    if match := re.search(r"(?:dq[au]|broadcast[fi])(8|16|32|64)$", name):
        return int(match[1])
    if match := re.search(r"(bf16|ps|ss|pd|sd|ph|sh)x?$", name):
        return 16 if match[1] == "bf16" else _FLOATS[match[1]][0]
    if match := re.search(r"2u?(w|dq|qq)$", name):
        return _CONVERTED[match[1]]
    return _WHOLE[name[-1]] if re.fullmatch(r"vp.*[bwdq]", name) else 0


@cache
def loaded(name: str) -> int:
    """Bits of the elements that it takes from memory, where it makes others of them.

    >>> loaded("vpmovzxbd"), loaded("vcvtps2pd"), loaded("vaddps")
    (8, 32, 32)
    """
    if match := re.fullmatch(rf"vcvtt?(?:ne2?)?u?({'|'.join(_CONVERTED)})2\w+", name):
        return _CONVERTED[match[1]]
    if match := re.fullmatch(r"vpmov[sz]x([bwd])[wdq]", name):
        return _WHOLE[match[1]]
    return element(name)

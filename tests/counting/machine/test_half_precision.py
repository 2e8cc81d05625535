"""Instructions of half precision are decoded as LLVM's assembler writes them, operands drawn."""

import random

import pytest

from counting.machine.code import REGISTERS
from counting.machine.decoding import decoded
from counting.machine.kinds import Kind

WIDTHS = {"xmm": 16, "ymm": 32, "zmm": 64}
WORDS = {1: "byte", 2: "word", 4: "dword", 8: "qword", 16: "xmmword", 32: "ymmword", 64: "zmmword"}

# By name: registers of the operands as parts of the vector, bytes of an element in memory (0 where
# nothing is broadcast), what it computes.
VECTORS = {
    **{f"v{name}ph": ("111", 2, kind) for name, kind in [
        ("add", "add"), ("sub", "add"), ("mul", "mul"), ("div", "div"), ("min", "cmp"),
        ("max", "cmp"), ("scalef", "other"),
    ]},
    **{f"v{name}ph": ("11", 2, kind) for name, kind in [
        ("sqrt", "sqrt"), ("rcp", "other"), ("rsqrt", "other"), ("getexp", "other"),
    ]},
    **{f"v{name}{order}ph": ("111", 2, "fma") for order in (132, 213, 231) for name in [
        "fmadd", "fmsub", "fnmadd", "fnmsub", "fmaddsub", "fmsubadd",
    ]},
    **{f"v{name}ph": ("11i", 2, "other") for name in ("rndscale", "getmant", "reduce")},
    "vcmpltph": ("k11", 2, "cmp"),
    **dict.fromkeys([
        "vcvtph2w", "vcvttph2w", "vcvtph2uw", "vcvttph2uw", "vcvtw2ph", "vcvtuw2ph",
    ], ("11", 2, "")),
    **dict.fromkeys([
        "vcvtph2psx", "vcvtph2dq", "vcvttph2dq", "vcvtph2udq", "vcvttph2udq",
    ], ("12", 0, "")),
    **dict.fromkeys([
        "vcvtph2pd", "vcvtph2qq", "vcvttph2qq", "vcvtph2uqq", "vcvttph2uqq",
    ], ("14", 0, "")),
    **dict.fromkeys([
        "vcvtps2phx", "vcvtdq2ph", "vcvtudq2ph",
    ], ("21", 4, "")),
    **dict.fromkeys([
        "vcvtpd2ph", "vcvtqq2ph", "vcvtuqq2ph",
    ], ("41", 8, "")),
}  # fmt: skip
# By name: registers, and bytes of the last, in memory.
SCALARS = {
    **{f"v{name}sh": ("xxx", 2, kind) for name, kind in [
        ("add", "add"), ("sub", "add"), ("mul", "mul"), ("div", "div"), ("sqrt", "sqrt"),
        ("min", "cmp"), ("max", "cmp"), ("scalef", "other"), ("rcp", "other"), ("rsqrt", "other"),
        ("getexp", "other"),
    ]},
    **{f"v{name}{order}sh": ("xxx", 2, "fma") for order in (132, 213, 231) for name in [
        "fmadd", "fmsub", "fnmadd", "fnmsub",
    ]},
    **{f"v{name}sh": ("xxxi", 2, "other") for name in ("rndscale", "getmant", "reduce")},
    "vcmpltsh": ("kxx", 2, "cmp"),
    **{f"v{name}sh": ("xx", 2, "cmp") for name in ("ucomi", "comi")},
    **{f"v{name}": ("xxx", size, "") for name, size in [
        ("cvtsh2ss", 2), ("cvtsh2sd", 2), ("cvtss2sh", 4), ("cvtsd2sh", 8),
    ]},
    **{f"vcvt{way}": ("rx", 2, "") for way in ("sh2si", "tsh2si", "sh2usi", "tsh2usi")},
    **{f"vcvt{way}": ("xxr", 4, "") for way in ("si2sh", "usi2sh")},
    "vmovw": ("xr", 2, ""),
}  # fmt: skip


def assembled(lines):
    """The bytes of each instruction, as LLVM writes them, and what pads them."""
    llvm = pytest.importorskip("llvmlite.binding")
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    target = llvm.Target.from_triple("x86_64-unknown-linux-gnu")
    machine = target.create_target_machine(features="+avx512fp16,+avx512vl,+avx512bw,+avx512dq")
    asm = "".join(f".p2align 4, 0xcc\n{line}\n" for line in (".intel_syntax noprefix", *lines))
    quoted = asm.replace("\n", "\\0A")
    module = llvm.parse_assembly(
        f'target triple = "x86_64-unknown-linux-gnu"\nmodule asm "{quoted}"'
    )
    file = llvm.ObjectFileRef.from_data(machine.emit_object(module))
    (text,) = (part.data() for part in file.sections() if part.name() == b".text")
    return [text[i : i + 16] for i in range(0, len(text), 16)]


def number(n):
    return str(n) if n < 10 else hex(n)


def at(rng, size):
    """An operand in memory, its displacement of a byte in the encoding or of four, or none."""
    base, offset = rng.choice(("rdi", "rax", "r12", "rbp", "rsp")), 0
    if rng.random() < 0.8:
        offset = rng.choice((size, 2, 1)) * rng.randint(-128, 127) * rng.choice((1, 1, 9))
    text = base
    if rng.random() < 0.3:
        text += f" + {rng.choice(('rcx', 'r9', 'rbp'))}*{rng.choice((2, 4, 8))}"
    if offset:
        text += f" {'-' if offset < 0 else '+'} {number(abs(offset))}"
    return f"{WORDS[size]} ptr [{text}]", base, offset


def drawn(rng, name):
    """An instruction as it is written; its memory as (base, offset, bytes, lanes), if any."""
    registers, size, _ = VECTORS.get(name) or SCALARS[name]
    vector = "" if name in SCALARS else rng.choice([*WIDTHS])
    memory, mask = None, rng.choice((0, 0, *range(1, 8))) if name in VECTORS else 0
    words = []
    for i, part in enumerate(registers):
        if part == "i":
            words.append(number(rng.randrange(256)))
        elif part == "k":
            words.append(f"k{rng.randrange(8)}")
        elif i == len(registers) - 1 - ("i" in registers) and rng.random() < 0.6:
            if not vector:
                text, *where = at(rng, size)
                memory = (*where, size, 0)
            elif size and rng.random() < 0.4:
                text, *where = at(rng, size)
                text += f"{{1to{WIDTHS[vector] // size}}}"
                memory = (*where, size, 0)
            else:
                n = WIDTHS[vector] // int(part)
                text, *where = at(rng, n)
                lanes = WIDTHS[vector] // (size or 2 * int(part))
                memory = (*where, n, lanes if mask and lanes > 0 else 0)
            words.append(text)
        elif part == "r":
            words.append(rng.choice(("eax", "r10d", "ecx")))
        else:
            n = WIDTHS[vector] // int(part) if vector else 16
            kind = next((k for k, w in WIDTHS.items() if w == n), "xmm")
            words.append(f"{kind}{rng.randrange(32)}")
    if mask:
        words[0] += f" {{k{mask}}}"
        if registers[0] != "k" and rng.random() < 0.3:
            words[0] += " {z}"
    return f"{name} {', '.join(words)}", memory


@pytest.mark.parametrize("name", [*VECTORS, *SCALARS])
def test_an_instruction_is_decoded_as_it_was_written(name):
    rng = random.Random(name)
    cases = [drawn(rng, name) for _ in range(30)]
    kind = (VECTORS.get(name) or SCALARS[name])[2]
    for code, (line, memory) in zip(assembled(line for line, _ in cases), cases, strict=True):
        found = decoded(code)
        assert found.text.replace(" ", "") == line.replace(" ", ""), code.hex(" ")
        assert found.kind == (Kind(kind, 16, scalar=name in SCALARS) if kind else Kind("", 0))
        one = found.memory[0] if found.memory else None
        assert (one and (REGISTERS[one.base], one.offset, one.size, one.lanes)) == memory, line

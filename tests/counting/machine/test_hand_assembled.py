"""Programs in machine code whose counts are known as they are written, drawn at random."""

import ctypes
import mmap
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from counting.machine.ran import COMPILED, Moved


class Known:
    """An instruction: its bytes, kind, bits, and lanes; bytes that it reads and writes.

    `each` and `masked`: factors that go into a lane, and whether k1 chooses lanes; `part`: bytes
    of a lane in memory, where k1 chooses those.
    """

    def __init__(self, code, kind="", bits=0, lanes=0, **other):
        self.code, self.kind, self.bits, self.lanes = bytes.fromhex(code), kind, bits, lanes
        self.each, self.masked = other.get("each", 1), other.get("masked", 0)
        self.read, self.written = other.get("read", 0), other.get("written", 0)
        self.part = other.get("part", 0)


AVX2 = [
    Known("0f58c1", "add", 32, 4),  # addps xmm0, xmm1
    Known("f20f59ca", "mul", 64, 1),  # mulsd xmm1, xmm2
    Known("f30f5f4f08", "cmp", 32, 1, read=4),  # maxss xmm1, [rdi+8]
    Known("0f115e10", written=16),  # movups [rsi+16], xmm3
    Known("0f175e28", written=8),  # movhps [rsi+40], xmm3
    Known("c5f458c2", "add", 32, 8),  # vaddps ymm0, ymm1, ymm2
    Known("c5f55c4740", "add", 64, 4, read=32),  # vsubpd ymm0, ymm1, [rdi+64]
    Known("c5f1596720", "mul", 64, 2, read=16),  # vmulpd xmm4, xmm1, [rdi+32]
    Known("c5f25e6704", "div", 32, 1, read=4),  # vdivss xmm4, xmm1, [rdi+4]
    Known("c5fd51e9", "sqrt", 64, 4),  # vsqrtpd ymm5, ymm1
    Known("c4e275b81f", "fma", 32, 8, read=32),  # vfmadd231ps ymm3, ymm1, [rdi]
    Known("c4e2f1afda", "fma", 64, 1),  # vfnmsub213sd xmm3, xmm1, xmm2
    Known("c5f4c2ea01", "cmp", 32, 8),  # vcmpltps ymm5, ymm1, ymm2
    Known("c5f77cea", "add", 32, 8),  # vhaddps ymm5, ymm1, ymm2
    Known("c5fc114620", written=32),  # vmovups [rsi+32], ymm0
    Known("c5fc105760", read=32),  # vmovups ymm2, [rdi+96]
    Known("c5f5fc4720", "int add", 8, 32, read=32),  # vpaddb ymm0, ymm1, [rdi+32]
    Known("c4e27540f2", "int mul", 32, 8),  # vpmulld ymm6, ymm1, ymm2
    Known("c5f5f5f2", "int dot", 16, 8, each=2),  # vpmaddwd ymm6, ymm1, ymm2
    Known("c4e27504f2", "int dot", 8, 16, each=2),  # vpmaddubsw ymm6, ymm1, ymm2
    Known("c5f1eef2", "int cmp", 16, 8),  # vpmaxsw xmm6, xmm1, xmm2
    Known("c4e27d217f18", read=8),  # vpmovsxbd ymm7, [rdi+24]
    Known("c4e27d187f0c", read=4),  # vbroadcastss ymm7, [rdi+12]
    Known("d84704", "x87", 80, 1, read=4),  # fadd dword ptr [rdi+4]
]
AVX512 = [
    Known("62f17548fe07", "int add", 32, 16, read=64),  # vpaddd zmm0, zmm1, [rdi]
    Known("62f1744958c2", "add", 32, 16, masked=1),  # vaddps zmm0 {k1}, zmm1, zmm2
    Known("62f2f549b85f01", "fma", 64, 8, masked=1, read=64, part=8),  # vfmadd231pd zmm3 {k1}, …
    Known("62f17458596701", "mul", 32, 16, read=4),  # vmulps zmm4, zmm1, [rdi+4]{1to16}
    Known("62f17cc9102f", masked=1, lanes=16, read=64, part=4),  # vmovups zmm5 {k1}{z}, [rdi]
    Known("62f17f297f06", masked=1, lanes=32, written=32, part=1),  # vmovdqu8 [rsi] {k1}, ymm0
    Known("62f1fd49114601", masked=1, lanes=8, written=64, part=8),  # vmovupd [rsi+64] {k1}, zmm0
    Known("62f27d49217f01", masked=1, lanes=16, read=16, part=1),  # vpmovsxbd zmm7 {k1}, [rdi+16]
    Known("62f27e49317e01", masked=1, lanes=16, written=16, part=1),  # vpmovdb [rsi+16] {k1}, zmm7
    Known("62f1760958e2", "add", 32, 1, masked=1),  # vaddss xmm4 {k1}, xmm1, xmm2
]
BFLOAT16 = [
    Known("62727648524701", "dot", 16, 16, each=2, read=64),  # vdpbf16ps zmm8, zmm1, [rdi+64]
    Known("6272762952c2", "dot", 16, 8, each=2, masked=1),  # vdpbf16ps ymm8 {k1}, ymm1, ymm2
]
VNNI = [
    Known("62727548500f", "int dot", 8, 16, each=4, read=64),  # vpdpbusd zmm9, zmm1, [rdi]
    Known("6272754952ca", "int dot", 16, 16, each=2, masked=1),  # vpdpwssd zmm9 {k1}, zmm1, zmm2
]
AVX_VNNI = [
    Known("c46275504f20", "int dot", 8, 8, each=4, read=32),  # vpdpbusd ymm9, ymm1, [rdi+32]
]
HALF = [
    Known("62f5744958c2", "add", 16, 32, masked=1),  # vaddph zmm0 {k1}, zmm1, zmm2
    Known("62f67548b81f", "fma", 16, 32, read=64),  # vfmadd231ph zmm3, zmm1, [rdi]
    Known("62f57438596703", "mul", 16, 16, read=2),  # vmulph ymm4, ymm1, word [rdi+6]{1to16}
    Known("62f576085e6705", "div", 16, 1, read=2),  # vdivsh xmm4, xmm1, [rdi+10]
    Known("62757c49514701", "sqrt", 16, 32, masked=1, read=64, part=2),  # vsqrtph zmm8 {k1}, …
    Known("62f67dc9137f01", masked=1, lanes=16, read=32, part=2),  # vcvtph2psx zmm7 {k1} {z}, …
    Known("62f57d481d37", read=64),  # vcvtps2phx ymm6, [rdi]
    Known("62f57d087e4e05", written=2),  # vmovw [rsi+10], xmm1
]
NEEDED = {
    "AVX2": (AVX2, {"avx2", "fma"}),
    "AVX-512": (AVX512, {"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    "bfloat16": (BFLOAT16, {"avx512f", "avx512vl", "avx512_bf16"}),
    "half precision": (HALF, {"avx512_fp16", "avx512vl", "avx512bw"}),
    "VNNI": (VNNI, {"avx512f", "avx512_vnni"}),
    "AVX-VNNI": (AVX_VNNI, {"avx_vnni"}),
}


def features():
    line = next(x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("flags"))
    return set(line.split())


def function(code):
    """Machine code as a function of two addresses; its memory beside it, which is to be kept."""
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(at), memory


def word(n):
    return n.to_bytes(4, "little")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("needed", NEEDED)
def test_lanes_and_bytes_are_those_of_the_program(needed, seed):
    from counting.machine import executed

    there, wanted = features(), NEEDED[needed][1]
    if not wanted <= there:
        pytest.skip(f"this processor has no {needed}")
    rng = random.Random(f"{needed} {seed}")
    chosen = rng.choices(NEEDED[needed][0] + (AVX2 if {"avx2", "fma"} <= there else []), k=12)
    times, mask = rng.randint(1, 40), rng.getrandbits(32)
    body = b"".join(one.code for one in chosen)
    code = b"\xd9\xee" + b"\xb9" + word(times)  # fldz; mov ecx, times
    if any(one.masked for one in chosen):
        code += b"\xb8" + word(mask) + bytes.fromhex("c5fb92c8")  # mov eax, mask; kmovd k1, eax
    code += body + b"\xff\xc9" + b"\x0f\x85" + (-len(body) - 8).to_bytes(4, "little", signed=True)
    code += bytes.fromhex("c5f877ddd8c3")  # vzeroupper; fstp st(0); ret
    call, _memory = function(code)
    x, y = np.zeros(160, np.uint8), np.zeros(160, np.uint8)
    arrays = {"x": x, "y": y}
    _, ran = executed(call, x.ctypes.data, y.ctypes.data, arrays=arrays)

    lanes, off, read, written = Counter(), Counter(), 0, 0
    for one in chosen:
        on = (mask & ((1 << one.lanes) - 1)).bit_count() if one.masked else one.lanes
        if one.kind:
            lanes[one.kind, one.bits] += times * on * one.each
            off[one.kind, one.bits] += times * (one.lanes - on) * one.each
        read += times * (one.part * on if one.part and one.read else one.read)
        written += times * (one.part * on if one.part and one.written else one.written)
    assert ran.lanes(COMPILED) == +lanes
    assert ran.masked(COMPILED) == +off
    assert ran.moved["x"] == Moved(read, 0)
    assert ran.moved["y"] == Moved(0, written)
    own = {line.text: line.times for line in ran.lines if line.library == COMPILED}
    assert own["dec ecx"] == times
    assert sum(own.values()) == (14 if any(o.masked for o in chosen) else 12) - 7 + times * 14
    assert ran.unknown == 0


def test_a_repeated_instruction_moves_as_many_bytes_as_rcx_says():
    from counting.machine import executed

    for n in (0, 1, 23):
        call, _memory = function(b"\xb9" + word(n) + bytes.fromhex("f3a4c3"))  # rep movsb; ret
        to, of = np.zeros(40, np.uint8), np.arange(40, dtype=np.uint8)
        _, ran = executed(call, to.ctypes.data, of.ctypes.data, arrays={"to": to, "of": of})
        assert np.array_equal(to[:n], of[:n])
        assert (ran.moved["to"], ran.moved["of"]) == (Moved(0, n), Moved(n, 0))


def test_a_masked_load_of_avx2_reads_no_further_than_the_array_it_begins_in():
    from counting.machine import executed

    if "avx2" not in features():
        pytest.skip("this processor has no AVX2")
    # vpxor ymm0, ymm0, ymm0; vmaskmovps ymm1, ymm0, [rdi]; vzeroupper; ret
    call, _memory = function(bytes.fromhex("c5fdefc0c4e27d2c0fc5f877c3"))
    whole = np.zeros(100, np.uint8)
    for n in (5, 32, 40):
        arrays = {"x": whole[:n], "next": whole[n:]}
        _, ran = executed(call, whole.ctypes.data, 0, arrays=arrays)
        assert (ran.moved["x"], ran.moved["next"]) == (Moved(min(n, 32), 0), Moved())


def test_a_gather_has_bytes_and_no_address():
    from counting.machine import executed
    from counting.machine.ran import SCATTERED

    if "avx512f" not in features():
        pytest.skip("this processor has no AVX-512")
    # vpxord zmm7, zmm7, zmm7; mov eax, 0x1234; kmovw k2, eax; vgatherdps zmm5 {k2}, [rdi+zmm7*4]
    call, _memory = function(bytes.fromhex("62f14548efffb834120000c5f892d062f27d4a922cbfc5f877c3"))
    x = np.zeros(16, np.float32)
    _, ran = executed(call, x.ctypes.data, 0, arrays={"x": x})
    assert ran.moved[SCATTERED] == Moved(4 * 0x1234.bit_count(), 0)
    assert ran.moved["x"] == Moved()


@pytest.mark.parametrize("seed", range(4))
def test_what_ran_without_a_trap_is_told(seed):
    from counting.machine import executed
    from counting.machine.code import ADDRESS
    from counting.machine.places import Places
    from counting.machine.reduction import reduced
    from counting.machine.stepper import stepped

    rng = random.Random(seed)
    times, products = rng.randint(2, 300), rng.randint(4, 9)
    body = bytes.fromhex("0f59ca") * products  # mulps xmm1, xmm2
    code = b"\xb9" + word(times) + body + b"\xff\xc9\x0f\x85"
    call, _memory = function(code + (-len(body) - 8).to_bytes(4, "little", signed=True) + b"\xc3")
    assert executed(call, 0, 0)[1].lost == 0
    found = stepped(call, (0, 0), {})
    first = ctypes.cast(call, ctypes.c_void_p).value + 5
    at = (found.headers & np.uint64(ADDRESS)).astype(np.int64) - first
    places = np.flatnonzero((at >= 3) & (at < 3 * products))  # each after a product, none changed
    drop = rng.sample(places[:: products - 1].tolist(), rng.randint(1, times))
    ran = reduced(found._replace(headers=np.delete(found.headers, drop)), Places({}))
    assert ran.lost == len(drop)
    assert ran.lanes(COMPILED) == {("mul", 32): 4 * (times * products - len(drop))}
    assert f"not counted: what ran {len(drop):,} times without a trap" in str(ran)
    assert (ran + ran).lost == 2 * len(drop)


def test_what_nobody_can_decode_is_told():
    from counting.machine.decoding import decoded
    from counting.machine.ran import UNKNOWN, Line, Ran

    what = decoded(bytes.fromhex("62f66e48d6c3"))  # vfmulcph zmm0, zmm2, zmm3
    assert what.kind.name == UNKNOWN
    ran = Ran((Line("NumPy", what.text, what.kind.name, 0, 7, 0, 0),), {}, {})
    assert ran.unknown == 7
    assert "not counted: 7 instructions that could not be decoded" in str(ran)

"""Functions of NumPy and SciPy, executed: results as ever, and counts that arithmetic bounds."""

import json
import subprocess
import sys

import numpy as np
import pytest
from checkpoints import ROOT

from counting import executed
from counting.machine import Line, Moved, Ran
from counting.machine.ran import ELSEWHERE, FLOATING, INTEGER, SCATTERED

# NumPy fills its last vector up, or takes its elements one by one: at most one vector more a loop.
WIDEST = 64

CALLS = {  # name: the function, shapes, the least of floating-point operations that it can do with
    "numpy.add": ((71,), (71,), 71),
    "numpy.exp": ((40,), 40),
    "numpy.sum": ((333,), 332),
    "numpy.cumsum": ((50,), 49),
    "numpy.sort": ((200,), 0),
    "numpy.matmul": ((17, 23), (23, 9), 17 * 9 * (2 * 23 - 1)),
    "numpy.einsum": ("ij,kj->ik", (5, 7), (6, 7), 30 * 13),
    "numpy.fft.fft": ((64,), 2 * 64 * 6),  # that many at least: 4 n log2(n) is the best known
    "numpy.linalg.solve": ((9, 9), (9,), 2 * 9**3 // 3),
    "scipy.fft.dct": ((48,), 48),
    "scipy.linalg.cholesky": ((8, 8), 8**3 // 3),
    "scipy.special.erf": ((30,), 30),
    "scipy.signal.lfilter": ((3,), (3,), (60,), 60 * 4),
}


def function(name):
    module, _, name = name.rpartition(".")
    return getattr(pytest.importorskip(module, reason=f"{module} is not installed"), name)


def drawn(name, seed):
    """A function and what it is called with, drawn by seed, of float64."""
    rng = np.random.default_rng(seed)
    *given, least = CALLS[name]
    args = [rng.random(x) + 0.1 if isinstance(x, tuple) else x for x in given]
    if name.endswith("cholesky"):
        args = [args[0] @ args[0].T + np.eye(len(args[0]))]
    return function(name), args, least


@pytest.mark.parametrize("name", CALLS)
def test_the_result_is_as_ever_and_the_operations_are_enough(name):
    call, args, least = drawn(name, 1)
    expected = call(*args)  # what is imported when it is first called is not stepped
    arrays = {f"{i}": x for i, x in enumerate(args) if isinstance(x, np.ndarray)}
    found, ran = executed(call, *args, arrays=arrays)
    assert np.array_equal(found, expected)
    assert ran.flops() >= least
    assert ran.flops() == sum(ran.flops(library) for library in ran.libraries)
    assert ran.instructions == sum(ran.libraries.values())
    assert {"Python"} < set(ran.libraries)
    assert ran.unknown == 0
    for i, x in arrays.items():
        assert ran.moved[i].read >= x.nbytes  # of a matrix that is symmetric, the copy of all of it


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_loops_do_one_operation_an_element(dtype, seed):
    rng = np.random.default_rng(seed)
    call, kind = [(np.add, "add"), (np.subtract, "add"), (np.multiply, "mul"), (np.divide, "div")][
        rng.integers(4)
    ]
    n = int(rng.integers(1, 300))
    x, y = (rng.random(n).astype(dtype) + 1 for _ in range(2))
    out = np.empty_like(x)
    _, ran = executed(call, x, y, out=out, arrays={"x": x, "y": y, "out": out})
    lanes, bits = ran.lanes("NumPy"), x.itemsize * 8
    assert n <= lanes[kind, bits] <= n + WIDEST // x.itemsize
    assert ran.moved["out"] == Moved(0, x.nbytes)
    for name in "xy":
        assert x.nbytes <= ran.moved[name].read < x.nbytes + WIDEST
        assert ran.moved[name].written == 0


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_integers_are_apart_from_floats(dtype):
    x = np.arange(100).astype(dtype)
    _, ran = executed(np.add, x, x)
    assert 0 < ran.lanes("NumPy")["int add", x.itemsize * 8] <= 100 + WIDEST // x.itemsize
    _, floats = executed(np.add, x.astype(np.float32), x.astype(np.float32))
    assert floats.flops() - ran.flops() >= 100


def test_a_processor_without_avx512_runs_vectors_of_8():
    code = """
import numpy as np
from counting import executed
x = np.arange(100, dtype=np.float32)
_, ran = executed(np.add, x, x)
texts = [line.text for line in ran.lines if line.library in ("NumPy", "OpenBLAS")]
print(ran.lanes("NumPy")["add", 32], any("zmm" in text or "{k" in text for text in texts))
"""
    from numpy._core._multiarray_umath import __cpu_dispatch__

    newer = [name for name in __cpu_dispatch__ if name.startswith(("AVX512", "X86_V4"))]
    env = {"NPY_DISABLE_CPU_FEATURES": " ".join(newer), "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code]
    told = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    lanes, vectors_of_16 = told.stdout.split() or [told.stderr, ""]
    assert 100 <= int(lanes) <= 108
    assert vectors_of_16 == "False"


def test_notes_are_short():
    from counting.machine.stepper import stepped

    notes = stepped(sorted, [list(range(3000, 0, -1))], {})
    assert len(notes.headers) > 3000
    assert notes.headers.nbytes + notes.values.nbytes < 24 * len(notes.headers)


def test_columns_are_the_notes_spelled_out():
    """Chunks, of streams drawn at random, beside a reader that goes word by word."""
    from counting.machine import log

    rng = np.random.default_rng(5)
    headers, values, registers, masks, rows = [], [], [0] * 16, [0] * 8, []
    for _ in range(500):
        changed, masked = (
            int(rng.integers(1 << 16)) & int(rng.integers(1 << 16)),
            rng.random() < 0.1,
        )
        address = int(rng.integers(1 << 47))
        headers.append(address | masked << 47 | changed << 48)
        for i in range(16):
            if changed >> i & 1:
                registers[i] = int(rng.integers(1 << 63))
                values.append(registers[i])
        if masked:
            masks = [int(n) for n in rng.integers(1 << 63, size=8)]
            values += masks
        rows.append((address, [*registers, 0], masks))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "CHUNK", 77)
        found = [
            (int(address), row.tolist(), mask.tolist())
            for chunk in log.chunks(np.array(headers, np.uint64), np.array(values, np.uint64))
            for address, row, mask in zip(
                chunk.addresses, chunk.registers, chunk.masks, strict=True
            )
        ]
    assert found == rows


def test_bytes_go_to_the_first_array_that_has_them():
    """Accesses drawn at random, beside a count byte by byte."""
    from counting.machine.places import Places

    rng = np.random.default_rng(3)
    whole = np.zeros(300, np.uint8)
    start = whole.ctypes.data
    arrays = {"a": whole[20:60], "b": whole[60:61], "c": whole[50:120:2], "d": whole[200:]}
    owner = dict.fromkeys(range(-70, 400), ELSEWHERE)
    for name, x in reversed(arrays.items()):
        low, high = np.lib.array_utils.byte_bounds(x)
        owner |= dict.fromkeys(range(low - start, high - start), name)
    where, size = rng.integers(-5, 300, 200), rng.choice([0, 1, 4, 16, 64], 200)
    places = Places(arrays)
    places.touch("read", (where + start).astype(np.uint64), size)
    expected = dict.fromkeys([*arrays, ELSEWHERE], 0)
    for at, n in zip(where.tolist(), size.tolist(), strict=True):
        for byte in range(at, at + n):
            expected[owner[byte]] += 1
    assert {name: moved.read for name, moved in places.moved().items()} == expected


def test_two_runs_add_up_and_go_out_as_json():
    x, y = np.ones(50, np.float32), np.ones((9, 9))
    _, one = executed(np.exp, x, arrays={"x": x})
    _, two = executed(np.matmul, y, y, arrays={"y": y})
    both = one + two
    assert both.instructions == one.instructions + two.instructions
    assert both.lanes() == one.lanes() + two.lanes()
    assert both.masked() == one.masked() + two.masked()
    assert both.flops() == one.flops() + two.flops()
    assert list(both.moved) == ["x", "y", ELSEWHERE]
    assert both.moved["x"] == one.moved["x"]
    assert both.moved[ELSEWHERE].read == sum(r.moved[ELSEWHERE].read for r in (one, two))
    assert [line.times for line in both.lines] == sorted(
        (n.times for n in both.lines), reverse=True
    )
    said = json.loads(both.to_json())
    assert said["moved"]["x"] == {"read": both.moved["x"].read, "written": 0}
    assert (
        Ran(
            tuple(Line(**line) for line in said["lines"]),
            {name: Moved(**n) for name, n in said["moved"].items()},
            said["threads"],
        )
        == both
    )


def test_it_prints_as_a_table():
    ran = Ran(
        (
            Line("NumPy", "vfmadd231ps zmm0, zmm1, [rax]", "fma", 32, 10, 150, 10),
            Line("libc", "mov rax, rbx", "", 0, 4, 0, 0),
        ),
        {"x": Moved(1000, 0), ELSEWHERE: Moved(8, 16), SCATTERED: Moved(4, 0)},
        {"worker (7)": 2_500_000, "gone (8)": None},
    )
    assert set(ran.lanes()) == {("fma", 32)}
    assert "fma" in FLOATING
    assert str(ran).splitlines() == [
        "14 instructions",
        "",
        "library  instructions  operation  bits  lanes  masked off  FLOP",
        "NumPy              10        fma    32    150          10   300",
        "libc                4",
        "total              14                                       300",
        "",
        "memory     bytes loaded  bytes stored",
        "x                 1,000             0",
        "elsewhere             8            16",
        "gathered              4             0",
        "",
        "most executed                  times     in",
        "vfmadd231ps zmm0, zmm1, [rax]     10  NumPy",
        "",
        "not counted: the thread worker (7), which ran 2.5 ms meanwhile",
        "not counted: the thread gone (8), which ended meanwhile",
    ]


@pytest.mark.parametrize(
    ("arrays", "error", "said"),
    [
        ({"elsewhere": np.ones(3)}, ValueError, "no array can be called 'elsewhere'"),
        ({"x": np.ones(3), "gathered": np.ones(3)}, ValueError, "called 'gathered'"),
        ({"x": [1, 2]}, TypeError, r"arrays\['x'\] is \[1, 2\]; it must be a NumPy array"),
        ({"x": np.ones(3), "y": np.float32(1)}, TypeError, r"\['y'\] is .* it must be a NumPy"),
        ({"x": None}, TypeError, r"arrays\['x'\] is None; it must be a NumPy array"),
    ],
)
def test_what_is_no_array_or_has_no_name_of_its_own_is_refused_first(arrays, error, said):
    called = []
    with pytest.raises(error, match=said) as refused:
        executed(called.append, 1, arrays=arrays)
    assert "\n" not in str(refused.value)
    assert called == []


def test_the_document_says_what_each_kind_counts():
    table = (ROOT / "docs" / "executed.md").read_text().partition("| column | counts |")[2]
    rows = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()[2:]]
    kinds = [kind.strip() for row in rows for kind in row.split(",")]
    assert sorted(kinds) == sorted([*FLOATING, *INTEGER, "masked off"])

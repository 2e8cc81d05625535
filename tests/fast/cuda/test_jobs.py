"""Each job of the GPU, its own source run on this CPU, beside the NumPy line that it equals.

No GPU code runs here.
"""

import numpy as np
import pytest
from emulator import NUMBERS, Emulator, job, poisoned
from gpu_visit.lines import EXACT, ONLINE, ROUNDED, joined, line, times

drawn = []


@pytest.fixture(autouse=True)
def _seeded():
    drawn[:] = [np.random.default_rng(0)]


def normal(*shape, dtype=np.float32):
    return drawn[0].standard_normal(shape).astype(np.float32).astype(dtype)


def assert_close(y, expected, within=EXACT):
    assert np.isfinite(y).all()
    assert np.linalg.norm(y - expected) <= within * np.linalg.norm(expected)


def assert_as_its_line(emulator, made, within=EXACT):
    expected = line(made.structure, made.held)
    emulator.run(made)
    for name, array in expected.items():
        assert_close(made.held[name], array, within)


# Products.

SIZES = [  # K, N, blocks, threads, parts
    (8, 1, 1, 64, 1),
    (64, 7, 3, 64, 1),  # blocks have 2 or 3 rows
    (72, 2, 3, 64, 2),  # some block has none
    (264, 50, 2, 96, 3),  # pieces that do not fill a warp
    (1600, 333, 4, 160, 2),
    (1600, 65, 1, 512, 4),
]


@pytest.mark.parametrize(("K", "N", "blocks", "threads", "parts"), SIZES)
def test_product(library, K, N, blocks, threads, parts):
    given = {"x": normal(K), "w": normal(N, K, dtype=np.float16), "y": poisoned(N)}
    made = job("Product", K=K, N=N, parts=parts, **given)
    assert_as_its_line(Emulator(library, blocks, threads), made)


def test_a_product_with_all_that_may_follow(library):
    x, w, bias, residual = normal(96), normal(40, 96, dtype=np.float16), normal(40), normal(40)
    given = {"K": 96, "N": 40, "parts": 1, "x": x, "w": w, "bias": bias, "residual": residual}
    for name in ("gelu", "gelu_exact", "silu", "relu"):
        made = job("Product", **given, y=poisoned(40), act=NUMBERS[name.upper()])
        assert_as_its_line(Emulator(library), made)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("K", [8, 1600])
def test_a_product_of_a_norm(library, kind, K):
    given = {"x": 3 * normal(K) + 1, "w": normal(9, K, dtype=np.float16), "y": poisoned(9)}
    given |= {"gain": normal(K)} | ({"shift": normal(K)} if kind == "layer_norm" else {})
    made_of = {"made_of": NUMBERS[kind.upper()], "epsilon": 1e-5}
    made = job("Product", K=K, N=9, parts=1, **given, **made_of)
    assert_as_its_line(Emulator(library), made, ROUNDED)


def test_a_product_of_what_is_gated(library):
    w, gated = normal(9, 72, dtype=np.float16), {"gate": NUMBERS["SILU"], "up": normal(72)}
    given = {"K": 72, "N": 9, "parts": 1, "x": normal(72), "w": w, "y": poisoned(9)}
    made = job("Product", made_of=NUMBERS["GATED"], **given, **gated)
    assert_as_its_line(Emulator(library), made, ROUNDED)


def test_products_one_after_another_while_weights_of_the_next_are_on_their_way(library):
    """Long ones and short ones, so that the ring runs dry, and holds pieces of two or three."""
    sizes = [64, 8, 8, 520, 16, 264]
    x = normal(sizes[0])
    jobs, expected = [], x
    for K, N in zip(sizes, [*sizes[1:], 5], strict=True):
        w, y = normal(N, K, dtype=np.float16), poisoned(N)
        jobs.append(job("Product", K=K, N=N, parts=1, x=x, w=w, y=y))
        expected, x = times(expected, w), y
    for blocks in (1, 2, 5):
        Emulator(library, blocks).run(*jobs)
        assert_close(x, expected, 1e-3)


def test_the_same_numbers_give_the_same_sums_bit_by_bit(library):
    x, w = normal(1600), normal(64, 1600, dtype=np.float16)
    found = []
    for blocks in (1, 3, 4):
        y = poisoned(64)
        Emulator(library, blocks).run(job("Product", K=1600, N=64, parts=2, x=x, w=w, y=y))
        found.append(y)
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


# Attention.


def assert_attends(library, H, G, D, S, capacity, splits, mask=None, new=False, turn=False):
    """Attention is its line, the caches too, and so is a product of what it found."""
    K, emulator = H // G, Emulator(library)
    k, v = (normal(K, capacity, D, dtype=np.float16) for _ in "kv")
    k[:, S:], v[:, S:] = np.nan, np.nan
    fields = {"heads": H, "group": G, "S": S, "D": D, "splits": splits, "head": capacity * D}
    fields |= {"cos": normal(D), "sin": normal(D)} if turn else {}
    if new:
        fields |= {"new_k": normal(K, D), "new_v": normal(K, D)}
        k[:, S - 1], v[:, S - 1] = np.nan, np.nan
    mask = np.ones(S, bool) if mask is None else mask
    arrays = {"q": normal(H, D), "k": k, "v": v, "mask": mask, "y": poisoned(H, splits, D + 2)}
    made = job("Attention", **fields, **arrays, scale=D**-0.5)
    expected = {"k": k[:, :S].copy(), "v": v[:, :S].copy()} | line("Attention", made.held)
    emulator.run(made)
    within = 4e-3 if turn else ONLINE  # a turned query may be rounded otherwise
    assert_close(joined(arrays["y"]), joined(expected["y"]), within)
    apart = np.abs(k[:, :S].astype(np.float32) - expected["k"].astype(np.float32))
    assert (apart <= np.abs(expected["k"]) * (2.0**-10 if turn else 0)).all()
    assert (v[:, :S] == expected["v"]).all()
    whole = {"parts": 1, "w": np.eye(H * D, dtype=np.float16), "D": D, "splits": splits}
    whole |= {"made_of": NUMBERS["PARTS"], "x": arrays["y"], "y": poisoned(H * D)}
    assert_as_its_line(emulator, job("Product", K=H * D, N=H * D, **whole), ROUNDED)


ATTENTIONS = [  # H, G, D, S, capacity, splits
    (1, 1, 8, 1, 1, 1),
    (2, 1, 64, 1, 16, 5),  # splits without a key
    (3, 1, 64, 33, 40, 2),
    (25, 1, 64, 37, 48, 5),  # as XL has them
    (4, 2, 32, 70, 80, 3),
    (8, 4, 128, 9, 9, 2),
    (2, 2, 256, 6, 7, 1),
]


@pytest.mark.parametrize("case", ATTENTIONS)
@pytest.mark.parametrize("new", [False, True])
def test_attention(library, case, new):
    assert_attends(library, *case, new=new)


@pytest.mark.parametrize("hidden", [slice(20, None), slice(None, 17), slice(3, 9)])
def test_keys_that_are_masked(library, hidden):
    mask = np.ones(37, bool)
    mask[hidden] = False
    assert_attends(library, 3, 1, 64, 37, 40, 4, mask)


@pytest.mark.parametrize("case", ATTENTIONS[2:6])
def test_queries_and_the_last_key_are_turned(library, case):
    assert_attends(library, *case, new=True, turn=True)


# Rows.


def rows(to, *operands, code="COPY"):
    """A job on (…, d) whose rows have at most four axes."""
    axes = [1] * (5 - to.ndim) + list(to.shape)
    names = ("to", "a", "b")
    fields = {"code": NUMBERS[code], "half": to.dtype == np.float16, "rows": to.size // axes[-1]}
    fields |= {"d": axes[-1]} | {f"length{i}": axes[i] for i in (1, 2, 3)}
    for name, x in zip(names, (to, *operands), strict=False):
        wide = np.broadcast_to(x, to.shape)
        strides = [0] * (5 - to.ndim) + [s // x.itemsize for s in wide.strides]
        fields |= {name: wide} | {f"{name}{i}": s for i, s in enumerate(strides)}
    return job("Rows", **fields)


@pytest.mark.parametrize("code", ["ADD", "SUBTRACT", "MULTIPLY", "DIVIDE"])
def test_rows_of_two(library, code):
    a, b, y = normal(2, 3, 1, 9), normal(3, 4, 9)[:, ::2, ::-1], poisoned(2, 3, 2, 9)
    assert_as_its_line(Emulator(library), rows(y, a, b, code=code), 0)


@pytest.mark.parametrize("code", ["TANH", "COS", "SIN", "GELU", "GELU_EXACT", "SILU", "RELU"])
def test_rows_of_one(library, code):
    x = 9 * normal(3, 5)
    x[0, 0] = 1e5
    assert_as_its_line(Emulator(library), rows(poisoned(3, 5), x, code=code))


def test_a_copy_into_a_cache(library):
    cache, x = np.full((2, 5, 8), np.nan, np.float16), normal(2, 1, 8)
    assert_as_its_line(Emulator(library), rows(cache[:, 3:4], x), 0)
    assert np.isnan(np.delete(cache, 3, 1)).all()


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norms_of_rows(library, kind):
    given = {"x": normal(7, 40) + 2, "gain": normal(40), "y": poisoned(7, 40), "epsilon": 1e-5}
    given |= {"shift": normal(40)} if kind == "layer_norm" else {}
    assert_as_its_line(Emulator(library), job("Norm", rows=7, d=40, **given))


def test_a_row_is_gathered(library):
    given = {"table": normal(5, 40, dtype=np.float16), "bias": normal(40), "y": poisoned(40)}
    assert_as_its_line(Emulator(library), job("Gathered", d=40, index=np.array([3]), **given), 0)


def test_a_position(library):
    assert_as_its_line(Emulator(library), job("Position", n=1023, y=poisoned(1)), 0)

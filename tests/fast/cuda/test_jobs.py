"""Each job of the GPU, its own source run on this CPU, beside the NumPy line that it equals.

No GPU code runs here.
"""

import numpy as np
import pytest
from emulator import NUMBERS, Emulator, job, poisoned

from minigpt.models import ops

EXACT = 2e-6  # float32, sums in another order
drawn = []


@pytest.fixture(autouse=True)
def _seeded():
    drawn[:] = [np.random.default_rng(0)]


def normal(*shape, dtype=np.float32):
    return drawn[0].standard_normal(shape).astype(np.float32).astype(dtype)


def halved(x):
    """As the left operand of a product is rounded."""
    return x.astype(np.float16).astype(np.float32)


def assert_close(y, expected, within=EXACT):
    assert np.isfinite(y).all()
    assert np.linalg.norm(y - expected) <= within * np.linalg.norm(expected)


def times(x, w):
    """`x @ w.T`, exactly but for rounding at the end."""
    return (halved(x).astype(np.float64) @ w.T.astype(np.float64)).astype(np.float32)


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
    x, w, y = normal(K), normal(N, K, dtype=np.float16), poisoned(N)
    run = Emulator(library, blocks, threads).run
    run(job("Product", K=K, N=N, parts=parts, x=x, w=w, y=y))
    assert_close(y, times(x, w))


def test_a_product_with_all_that_may_follow(library):
    x, w, y = normal(96), normal(40, 96, dtype=np.float16), poisoned(40)
    bias, residual = normal(40), normal(40)
    given = {"K": 96, "N": 40, "parts": 1, "x": x, "w": w, "y": y, "bias": bias}
    for name in ("gelu", "gelu_exact", "silu", "relu"):
        act = NUMBERS[name.upper()]
        Emulator(library).run(job("Product", **given, residual=residual, act=act))
        assert_close(y, getattr(ops, name)(times(x, w) + bias) + residual)


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
@pytest.mark.parametrize("K", [8, 1600])
def test_a_product_of_a_norm(library, kind, K):
    x, w, y = 3 * normal(K) + 1, normal(9, K, dtype=np.float16), poisoned(9)
    given = {"gain": normal(K)} | ({"shift": normal(K)} if kind == "layer_norm" else {})
    made_of = {"made_of": NUMBERS[kind.upper()], "epsilon": 1e-5}
    Emulator(library).run(job("Product", K=K, N=9, parts=1, x=x, w=w, y=y, **given, **made_of))
    normed = getattr(ops, kind)(x, *given.values(), 1e-5)
    assert_close(y, times(normed, w), 2e-4)  # what falls between two halves may fall otherwise


def test_a_product_of_what_is_gated(library):
    gate, up, w, y = normal(72), normal(72), normal(9, 72, dtype=np.float16), poisoned(9)
    gated = {"made_of": NUMBERS["GATED"], "gate": NUMBERS["SILU"], "up": up}
    Emulator(library).run(job("Product", K=72, N=9, parts=1, x=gate, w=w, y=y, **gated))
    assert_close(y, times(ops.silu(gate) * up, w), 2e-4)


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


def attend(library, H, G, D, S, capacity, splits, mask=None, new=False, turn=False, blocks=3):
    """What attention and a product with the identity give, what NumPy gives, and the caches."""
    K = H // G
    q, k, v = normal(H, D), *(normal(K, capacity, D, dtype=np.float16) for _ in "kv")
    mask = np.ones(S, bool) if mask is None else mask
    parts, y = poisoned(H, splits, D + 2), poisoned(H * D)
    fields = {"heads": H, "group": G, "S": S, "D": D, "splits": splits, "head": capacity * D}
    expected_k, expected_v = k.copy(), v.copy()
    k[:, S:], v[:, S:] = np.nan, np.nan
    turned = lambda x: x  # noqa: E731
    if turn:
        cos, sin = normal(D), normal(D)
        fields |= {"cos": cos, "sin": sin}
        turned = lambda x: x * cos + np.roll(x, -(D // 2), -1) * sin  # noqa: E731
    if new:
        fields |= {"new_k": normal(K, D), "new_v": normal(K, D)}
        expected_k[:, S - 1], expected_v[:, S - 1] = turned(fields["new_k"]), fields["new_v"]
        k[:, S - 1], v[:, S - 1] = np.nan, np.nan
    whole = {"parts": 1, "w": np.eye(H * D, dtype=np.float16), "D": D, "splits": splits}
    arrays = {"q": q, "k": k, "v": v, "mask": mask, "y": parts, "scale": D**-0.5}
    Emulator(library, blocks).run(
        job("Attention", **fields, **arrays),
        job("Product", made_of=NUMBERS["PARTS"], K=H * D, N=H * D, x=parts, y=y, **whole),
    )
    wide = [np.repeat(x[:, :S].astype(np.float32), G, 0) for x in (expected_k, expected_v)]
    expected = ops.attention(halved(turned(q))[:, None], *wide, mask[None], D**-0.5)
    apart = np.abs(k[:, :S].astype(np.float32) - expected_k[:, :S].astype(np.float32))
    one_bit = (apart <= np.abs(expected_k[:, :S]) * 2.0**-10).all()
    return y, expected.reshape(-1), one_bit and (v[:, :S] == expected_v[:, :S]).all()


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
    y, expected, same = attend(library, *case, new=new)
    assert_close(y, expected, 4e-4)  # rounded once more, for the product
    assert same


@pytest.mark.parametrize("hidden", [slice(20, None), slice(None, 17), slice(3, 9)])
def test_keys_that_are_masked(library, hidden):
    mask = np.ones(37, bool)
    mask[hidden] = False
    y, expected, _ = attend(library, 3, 1, 64, 37, 40, 4, mask)
    assert_close(y, expected, 4e-4)


@pytest.mark.parametrize("case", ATTENTIONS[2:6])
def test_queries_and_the_last_key_are_turned(library, case):
    y, expected, same = attend(library, *case, new=True, turn=True)
    assert_close(y, expected, 4e-3)
    assert same


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
        fields |= {name: x.ctypes.data} | {f"{name}{i}": s for i, s in enumerate(strides)}
    return job("Rows", **fields)


@pytest.mark.parametrize("code", ["add", "subtract", "multiply", "divide"])
def test_rows_of_two(library, code):
    a, b, y = normal(2, 3, 1, 9), normal(3, 4, 9)[:, ::2, ::-1], poisoned(2, 3, 2, 9)
    Emulator(library).run(rows(y, a, b, code=code.upper()))
    assert (y == getattr(np, code)(a, b)).all()


@pytest.mark.parametrize("code", ["tanh", "cos", "sin", "gelu", "gelu_exact", "silu", "relu"])
def test_rows_of_one(library, code):
    x, y = 9 * normal(3, 5), poisoned(3, 5)
    x[0, 0] = 1e5
    Emulator(library).run(rows(y, x, code=code.upper()))
    assert_close(y, getattr(np, code, getattr(ops, code, None))(x))


def test_a_copy_into_a_cache(library):
    cache, x = np.full((2, 5, 8), np.nan, np.float16), normal(2, 1, 8)
    Emulator(library).run(rows(cache[:, 3:4], x))
    assert (cache[:, 3:4] == x.astype(np.float16)).all()
    assert np.isnan(np.delete(cache, 3, 1)).all()


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_norms_of_rows(library, kind):
    x, gain, shift, y = normal(7, 40) + 2, normal(40), normal(40), poisoned(7, 40)
    given = {"gain": gain} | ({"shift": shift} if kind == "layer_norm" else {})
    Emulator(library).run(job("Norm", rows=7, d=40, x=x, y=y, epsilon=1e-5, **given))
    assert_close(y, getattr(ops, kind)(x, *given.values(), 1e-5))


def test_a_row_is_gathered(library):
    table, bias, y = normal(5, 40, dtype=np.float16), normal(40), poisoned(40)
    index = np.array([3])
    Emulator(library).run(job("Gathered", d=40, table=table, index=index, bias=bias, y=y))
    assert (y == table[3].astype(np.float32) + bias).all()


def test_a_position(library):
    y = poisoned(1)
    Emulator(library).run(job("Position", n=1023, y=y))
    assert y[0] == 1023

"""What packed matrices cost: the price of a product, of a model's steps, and of its bytes."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from checkpoints import SHIPPED, checkpoint, tensors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matrices import IN, OUT, ROWS, machines, packed
from safetensors.numpy import save_file

from counting import Counted, Ledger, category, scope, trace
from minigpt import generate, load
from minigpt.commands.allocator import allocated
from minigpt.fast.packed import DTYPES, PackedMatrix, turned_product
from minigpt.inference.device import witness
from minigpt.models.architectures import read


@pytest.fixture(params=machines())
def machine(request):
    return request.param()


def counted(dtype, shape, machine):
    ledger = Ledger()
    w, numbers = packed(dtype, machine, shape=shape)
    with category("weights"):
        return Counted(w, ledger), Counted(numbers.astype(np.float32), ledger), ledger


def apart(counts, path):
    """The rows of `path` and of the scope in it that makes numbers of fewer bits into float32."""
    return counts.where(path), counts.where(f"{path}.dequantise")


@pytest.mark.parametrize("dtype", DTYPES)
@given(n=st.integers(1, 5), out=st.integers(1, 40), d=st.sampled_from((1, 16, 32)))
def test_the_price_of_a_product(dtype, n, out, d):
    """Worked out by hand, and by the code that it is the price of."""
    w, plain, ledger = counted(dtype, (out, d), None)
    x = Counted(np.ones((n, d), np.float32), ledger)
    assert ledger.live_bytes["weights"] == w.nbytes + plain.nbytes
    start = ledger.snapshot()
    with scope("packed"):
        y = x @ w.T
    with scope("plain"):
        x @ plain.T
    counts = ledger.snapshot() - start
    product, scaling = apart(counts, "packed")
    reference = counts.where("plain")
    assert y.nbytes == 4 * n * out
    assert product.cost == reference.cost == {"fma": n * d * out}
    assert product.total("dots") == n * out
    all_read = counts.where("packed*").bytes_read
    assert all_read["weights"] == w.nbytes
    assert product.bytes_read["activations"] == x.nbytes
    assert product.bytes_written == reference.bytes_written
    if dtype == "int8":
        assert scaling.cost == {"mul": n * out}
        assert all_read["activations"] == x.nbytes + y.nbytes  # what is scaled is read again
        assert scaling.bytes_written["activations"] == y.nbytes
        code = trace(turned_product, (n, d), (out, d), (out,))
        assert code.cost == product.cost + scaling.cost
    else:
        assert (len(scaling), all_read["activations"]) == (0, x.nbytes)


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=hnp.arrays(int, hnp.array_shapes(max_dims=2), elements=st.integers(0, OUT - 1)))
def test_the_price_of_rows(dtype, rows):
    w, plain, ledger = counted(dtype, (OUT, IN), None)
    start = ledger.snapshot()
    with scope("packed"):
        y = w[rows]
    with scope("plain"):
        plain[rows]
    counts = ledger.snapshot() - start
    taking, widening = apart(counts, "packed")
    itemsize = DTYPES[dtype].itemsize
    assert (y.dtype, y.nbytes) == (np.float32, 4 * IN * rows.size)
    assert taking.cost == counts.where("plain").cost == {}
    assert taking.bytes_read["weights"] == itemsize * IN * rows.size
    scales = 4 * rows.size if dtype == "int8" else 0
    assert widening.bytes_read["weights"] == scales
    assert widening.cost == ({"mul": IN * rows.size} if scales else {})
    if dtype == "float32":
        assert taking.bytes_written == counts.where("plain").bytes_written
        assert len(widening) == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_price_is_the_same_whatever_multiplies(machine, dtype):
    w, _, ledger = counted(dtype, (OUT, IN), machine)
    bare, _, other = counted(dtype, (OUT, IN), None)
    for weight in (w, bare):
        x = Counted(np.ones((17, IN), np.float32), weight.ledger)
        (x @ weight.T)[:, :1].copy()
        weight[ROWS]
    assert dict(ledger.snapshot()) == dict(other.snapshot())
    assert ledger.peak_bytes == other.peak_bytes


def test_a_counted_one_refuses_too():
    w, _, ledger = counted("bfloat16", (OUT, IN), None)
    start = ledger.snapshot()
    for refused in (
        lambda: w + 1.0,
        lambda: w[0],
        lambda: w[1:3],
        lambda: w.sum(),
        lambda: w.copy(),
        lambda: np.exp(w),
        lambda: w[ROWS > 1],
        lambda: list(w),
    ):
        with pytest.raises((TypeError, AttributeError)):
            refused()
    assert ledger.snapshot() - start == {}


# Whole models: only the bytes are others.

LLAMA = {
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 80,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": 1024,
    "n_positions": 80,
    "n_embd": 48,
    "n_layer": 2,
    "n_head": 3,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The model that comes along, and random ones of other architectures."""
    made = {"shipped": SHIPPED}
    for values, stored in ((GPT2, np.float32), (LLAMA, ml_dtypes.bfloat16)):
        folder = tmp_path_factory.mktemp(values["model_type"])
        (folder / "config.json").write_text(json.dumps(values))
        shutil.copy(SHIPPED / "tokenizer.json", folder)
        rng = np.random.default_rng(0)
        shapes = read(folder / "config.json").shapes()
        tensors = {k: (0.3 * rng.standard_normal(s)).astype(stored) for k, s in shapes.items()}
        save_file(tensors, folder / "model.safetensors")
        made[values["model_type"]] = folder
    return made


def sixty_four_steps(folder, dtype="float32"):
    """What they took outside of `dequantise`, there, and the bytes of weights read."""
    lm = load(folder, dtype=dtype)
    before = lm.ledger.snapshot()
    steps = list(generate(lm, "First", max_new_tokens=64, temperature=0, ignore_eos=True))
    assert len(steps) == 64
    counts = lm.ledger.snapshot() - before
    quantising = counts.where("*.dequantise")
    rest = {key: row for key, row in counts.items() if key not in quantising}
    kinds = [counts.columns[kind] for kind in ("calls", "dots", *counts.cost.by_kind())]
    flop = {}
    for key, row in rest.items():
        flop[key] = [row[column] for column in kinds]
    return flop, quantising.cost, counts.bytes_read["weights"], [step.token for step in steps]


@pytest.fixture(scope="module")
def references(folders):
    """The steps of each model in plain NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_FAST", "0")
        return {name: sixty_four_steps(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("fast", ["0", "1"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["shipped", "gpt2", "llama"])
def test_sixty_four_steps_take_what_plain_numpy_takes(
    folders, references, monkeypatch, name, dtype, fast
):
    monkeypatch.setenv("MINIGPT_FAST", fast)
    flop, quantising, read, tokens = sixty_four_steps(folders[name], dtype)
    expected, none, plain_read, plain_tokens = references[name]
    assert none == {}
    assert flop == expected  # row by row, in every kind
    if dtype == "float32":
        assert (quantising, read, tokens) == ({}, plain_read, plain_tokens)
    elif dtype == "int8":
        assert quantising.keys() == {"mul"}
        assert 0 < quantising["mul"] < sum(row[1] for row in expected.values()) * 1.2
        assert read < 0.35 * plain_read
    else:
        assert quantising == {}
        assert 0.5 < read / plain_read < 0.55  # norms, biases and positions stay float32


# Matrices that look alike and are not: bytes and prices are each one's own.

SCALES = [None, np.float16, np.float32, np.float64]


@st.composite
def lookalikes(draw):
    """Packed matrices of one shape (d, d), or (in, out), and one dtype, with scales of any kind."""
    d_in, d_out = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)) | st.just((3, 3)))
    made = []
    for _ in range(draw(st.integers(2, 5))):
        turned = draw(st.booleans())
        shape = (d_out, d_in) if turned else (d_in, d_out)
        kind = draw(st.sampled_from(SCALES))
        scale = None if kind is None else np.ones(shape[0], kind)
        made.append(PackedMatrix(np.ones(shape, np.int8), scale, turned))
    return made


def charged(ledger, run):
    """Totals and bytes that `run` adds to a ledger, or None where it is refused."""
    before = ledger.snapshot()
    try:
        result = run()
    except TypeError:
        return None
    assert result.nbytes == result.data.nbytes
    counts = ledger.snapshot() - before
    return counts.cost, counts.bytes_read, counts.bytes_written, dict(counts)


def calls(ledger, matrix, bare):
    """`x @ w`, `w[rows]` and the same of its transpose; w counted, or `bare` beside what counts."""
    with category("weights"):
        w = matrix if bare else Counted(matrix, ledger)
    x = Counted(np.ones((2, matrix.shape[0]), np.float32), ledger)
    back = Counted(np.ones((2, matrix.shape[1]), np.float32), ledger)
    rows = Counted(np.zeros(3, int), ledger)
    found = [charged(ledger, lambda: x @ w), charged(ledger, lambda: back @ w.T)]
    return found if bare else [*found, charged(ledger, lambda: w[rows])]


@given(lookalikes(), st.booleans())
def test_prices_of_lookalikes_are_those_they_have_alone(matrices, bare):
    together = Ledger()
    for matrix in matrices:
        assert calls(together, matrix, bare) == calls(Ledger(), matrix, bare)


@given(lookalikes())
def test_live_bytes_of_lookalikes_are_all_of_their_bytes(matrices):
    ledger = Ledger()
    with category("weights"):
        kept = [Counted(matrix, ledger) for matrix in matrices]
    total = sum(part.nbytes for matrix in matrices for part in matrix.parts)
    assert ledger.live_bytes["weights"] == ledger.peak_bytes["weights"] == total
    del kept[:]
    assert ledger.live_bytes["weights"] == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernels", ["0", "1"])
def test_weights_take_what_the_allocator_says(tmp_path, monkeypatch, dtype, kernels):
    """Of a checkpoint in float64: all of it is converted, so nothing is mapped."""
    if kernels == "1":
        pytest.importorskip("llvmlite")
    monkeypatch.setenv("MINIGPT_FAST", kernels)
    folder = checkpoint(tmp_path / "tiny", tensors(dtype="f8"))
    load(folder, dtype=dtype)  # what is made once for all models is no weight of this one
    with witness("cpu") as allocations:
        lm = load(folder, dtype=dtype)
        real = allocated(allocations)["weights"]
    assert lm.ledger.live_bytes["weights"] == lm.ledger.peak_bytes["weights"] == real


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_weights_of_the_shipped_model_take_what_the_allocator_says(monkeypatch, dtype):
    monkeypatch.setenv("MINIGPT_FAST", "0")
    with witness("cpu") as allocations:
        lm = load(dtype=dtype)
        real = allocated(allocations)["weights"]
    mapped = 0  # what is stored as it is held is no allocation
    for array in (lm.model.wte.weight.data, lm.model.wpe.weight.data):
        owner = array.stored if isinstance(array, PackedMatrix) else array
        while isinstance(owner, np.ndarray):
            owner = owner.base
        mapped += array.nbytes if owner is not None else 0
    assert lm.ledger.live_bytes["weights"] == real + mapped

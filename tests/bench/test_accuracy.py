"""What fewer bits cost: the figures worked out once more, from the logits themselves."""

import json

import numpy as np
import pytest
from checkpoints import CONFIG, SHIPPED, checkpoint, complaint, minigpt, tensors

from minigpt import load
from minigpt.bench.accuracy import accuracy
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES

TEXT = "ROMEO:\nHow silver-sweet sound lovers' tongues by night,\nLike softest music!\n"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(tmp_path, monkeypatch, cache):
    """A tiny checkpoint; kernels are compiled once for all tests and processes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return checkpoint(tmp_path / "tiny")


def predicted(lm, tokens):
    """Logits in float64 of each window of a context, and the tokens that follow."""
    logits, following = [], []
    for begin in range(0, len(tokens) - 1, CONFIG.n_positions):
        window = np.array(tokens[begin : begin + CONFIG.n_positions])
        if len(window) > 1:
            cache = lm.model.new_cache(1, CONFIG.n_positions)
            logits.append(lm.forward(window[None, :-1], cache, "all").data[0].astype(np.float64))
            following.append(window[1:])
    return np.concatenate(logits), np.concatenate(following)


@pytest.mark.parametrize("length", [2, 33, 40])  # windows of 16; one token alone is left out
def test_the_figures_are_those_of_the_logits(folder, length):
    (folder / "text").write_text("To be, or not to be, that is the question"[:length])
    found = accuracy(str(folder), folder / "text")
    text = (folder / "text").read_text()
    assert [row.dtype for row in found.rows] == list(DTYPES)
    for row in found.rows:
        lm, exact = load(folder, dtype=row.dtype), load(folder)
        tokens = lm.tokenizer.encode(text).ids
        assert len(tokens) == length
        logits, following = predicted(lm, tokens)
        reference, _ = predicted(exact, tokens)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        q = np.exp(reference) / np.exp(reference).sum(1, keepdims=True)
        at = np.arange(len(following)), following
        error = np.abs(logits - reference)
        assert row.max_error == pytest.approx(error.max(), rel=1e-5, abs=1e-9)
        assert row.mean_error == pytest.approx(error.mean(), rel=1e-5, abs=1e-9)
        assert row.top1_agreement == (logits.argmax(1) == reference.argmax(1)).mean()
        nats, fewest = -np.log(p[at]).sum(), -np.log(q[at]).sum()
        assert row.nats_per_token == pytest.approx(nats / len(following))
        assert row.nats_per_character == pytest.approx(nats / found.characters)
        assert row.token_difference == pytest.approx((nats - fewest) / found.predicted, abs=1e-6)
        assert row.character_difference * found.characters == pytest.approx(
            row.token_difference * found.predicted
        )
        assert (row.max_error > 0) == (row.dtype != "float32")
    assert found.predicted == found.characters == len(following) == length - -(-length // 16)
    assert (found.greedy, found.same) == (8, 8)


def test_without_a_text_the_model_writes_one(folder):
    found, again = accuracy(str(folder)), accuracy(str(folder))
    assert found == again
    assert len(found.text.tokens) == CONFIG.n_positions
    assert found.text.source.startswith("what the model itself generates in float32")


def test_the_command_says_it_of_the_model_that_comes_along(folder):
    (folder / "text").write_text(TEXT)
    run = minigpt("bench", "accuracy", str(SHIPPED), "--text", "text", "--json", cwd=folder)
    assert (run.returncode, run.stderr) == (0, b"")
    *lines, last = run.stdout.decode().splitlines()
    document = json.loads(last)
    assert (document["model"], document["text"]) == (str(SHIPPED), "text")
    assert document["greedy"] == {"tokens": 64, "same": 64}
    rows = {row.pop("dtype"): row for row in document["rows"]}
    assert list(rows) == [line.split()[0] for line in lines[1:5]] == list(DTYPES)
    assert rows["float32"]["max_error"] == 0
    # Its weights are stored in float16: only the cache has fewer bits.
    errors = [rows[dtype]["mean_error"] for dtype in ("float16", "bfloat16", "int8")]
    assert 0 < errors[0] < 0.1 * errors[1]
    assert max(errors) < 0.1
    assert all(abs(row["token_difference"]) < 0.05 for row in rows.values())
    assert all(row["top1_agreement"] > 0.9 for row in rows.values())
    assert all(1 < row["nats_per_character"] < 3 for row in rows.values())


def test_bad_input_gets_one_line(folder):
    (folder / "bytes").write_bytes(b"\xff\xfe\xff")
    (folder / "short").write_text("a")
    for name, line in (("none", "No such file"), ("bytes", "UTF-8"), ("short", "1 tokens")):
        run = minigpt("bench", "accuracy", str(folder), "--text", name, cwd=folder)
        assert line in complaint(run)
    weights = tensors()
    weights["ln_f.bias"][:] = np.nan
    checkpoint(folder, weights)
    with pytest.raises(InputError, match=r"logits of .*tiny.* are not finite"):
        accuracy(str(folder))

"""What can be looked at where a model stands: lens, cache, attention, what a layer should cost."""

import numpy as np
import pytest
from checkpoints import PROMPT, SHIPPED
from families import read, tiny
from helpers import SMALL, Case, numbers
from safetensors.numpy import load_file
from stepped import SAMPLING, Scripted, columns, small, tokens_of

import counting
from counting.stepping.commands import below
from minigpt import load, run_with_cache
from minigpt.stepping.inspection import attention_pattern, expected, kv_cache, logit_lens

FINAL = "ln_f.weight", "ln_f.bias", "wte.weight"


def test_what_is_read_at_a_stop_is_not_charged_and_right(plain):
    """Lens, cache, attention and formula, at every layer; the numbers are those of the model."""
    found = []

    def script(stepper, frame):
        lens, held = logit_lens(frame, top=1024), kv_cache(frame)
        x = frame.f_locals["x"]
        found.append((stepper.path, lens, held, expected(frame, stepper.path), x.data.copy()))
        stepper.run_to_layer()

    stepper, lm = Scripted(script), load()
    stepper.generate(lm, PROMPT, SAMPLING, token=2, at="h.*")
    assert columns(lm.ledger.snapshot()) == columns(plain[1].snapshot())
    assert lm.ledger.peak_bytes == plain[1].peak_bytes
    found = [one for one in found if one[0].count(".") == 1][:6]
    assert [path for path, *_ in found] == [f"h.{layer}" for layer in range(6)]
    weights = load_file(SHIPPED / "model.safetensors")
    scale, shift, table = (weights[name].astype(float) for name in FINAL)
    for layer, (_, lens, held, _, x) in enumerate(found):
        row = x[0, -1].astype(float)
        row = (row - row.mean()) / np.sqrt(row.var() + lm.config.layer_norm_epsilon)
        logits = table @ (row * scale + shift)
        share = np.exp(logits - logits.max())
        share /= share.sum()
        assert lens.path == f"h.{layer}"
        assert sum(p for _, p in lens.tokens) == pytest.approx(1)
        assert lens.tokens[0][0] == share.argmax()
        assert lens.tokens[0][1] == pytest.approx(share.max(), rel=1e-3)
        assert [row.filled for row in held] == [8] * layer + [7] * (6 - layer)
        assert {row.reserved for row in held} == {9}
        assert held[0].filled_bytes == held[0].filled * 2 * 256 * 4
    second = plain[0][1].counts
    for path, _, _, whole, _ in found:
        assert whole.flops == counting.views.flops(below(second, path))
        assert "D" in whole.formula


@pytest.mark.parametrize("name", ["llama", "deepseek"])
def test_what_a_layer_should_cost_is_known_for_every_architecture(name):
    case = SMALL[name]
    lm = small(case)
    whole = {}

    def script(stepper, frame):
        whole.setdefault(stepper.path, expected(frame, stepper.path))
        stepper.run_to_line(lambda frame, path, before: path != before)

    stepper = Scripted(script)
    stepper.observe(lm.ledger)
    with stepper.stepping():
        lm.model(tokens_of(case), lm.model.new_cache(case.batch, case.capacity))
    layer = "model.layers.1"
    done = counting.views.flops(below(stepper.counts, layer))
    if name == "llama":  # which experts are met is not known without the data
        assert whole[layer].flops == done
    assert whole[f"{layer}.self_attn"].flops == counting.views.flops(
        below(stepper.counts, f"{layer}.self_attn")
    )
    assert whole[layer].formula == ""


def test_a_state_is_shown_in_the_place_of_a_cache():
    """Of two layers the first has one: no positions are reserved, all of its bytes are used."""
    lm, found = small(Case(read("qwen3_next", tiny("qwen3_next")), 2, (3,), 9)), {}

    def script(stepper, frame):
        if stepper.path == "model.layers.1":
            found.setdefault("rows", kv_cache(frame))
        stepper.run_to_line(lambda frame, path, before: path != before)

    stepper = Scripted(script)
    stepper.observe(lm.ledger)
    cache = lm.model.new_cache(2, 9)
    with stepper.stepping():
        lm.model(numbers(0, 7)((2, 3), int), cache)
    state, keys = found["rows"]
    assert state == (0, 3, None, cache.state_bytes, cache.state_bytes)
    assert keys == (1, 0, 9, 0, cache.nbytes)
    assert lm.ledger.live_bytes["state"] == cache.state_bytes > 0


def test_where_attention_looks():
    patterns = []

    def script(stepper, frame):
        patterns.append((stepper.path, attention_pattern(frame)))
        stepper.set_next(frame) if len(patterns) < 3 else stepper.set_quit()

    stepper = Scripted(script)
    stepper.generate(load(), PROMPT, SAMPLING, at="h.3.attn.softmax")
    assert [pattern is None for _, pattern in patterns] == [True, False, False]
    pattern = patterns[1][1]
    assert pattern.shape == (8, 7, 7)
    assert np.allclose(pattern.sum(axis=-1), 1)
    assert not np.triu(pattern[0], 1).any()
    _, kept = run_with_cache(load(), PROMPT, "h.3.attn.softmax")
    assert np.array_equal(kept["h.3.attn.softmax"].data[0], pattern.astype(np.float32))

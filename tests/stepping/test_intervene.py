"""`intervene`: values put in the place of activations, against models that were changed by hand."""

import asyncio
import gc
import threading

import families
import numpy as np
import pytest
from checkpoints import PROMPT
from gpu import stand_in  # noqa: F401
from helpers import Case, numbers
from stepped import small

from counting import Counted, observing, uncounted
from minigpt import InputError, generate, intervene, load, run_with_cache, steps
from minigpt.fast import machine, replay
from minigpt.models import decoder, gpt2, ops
from minigpt.models.architectures import build
from minigpt.models.experts import ClampedExpert
from minigpt.models.parts import Embedding, Head, LayerNorm, Linear, Projection, RMSNorm, Scale
from minigpt.stepping.values import giving

NAMES = ("gpt2", "llama", "mixtral")  # a GPT-2, a Llama, a mixture of experts
SEEDS = range(6)
ENDING = (  # parts of which the last operation is what they give
    *(gpt2.Block, decoder.Block, ClampedExpert),
    *(Linear, Projection, LayerNorm, RMSNorm, Embedding, Head, Scale),
)


def drawn(name, seed):
    """A small model of a family, and passes over it: a prompt, then tokens."""
    rng = np.random.default_rng(seed)
    config = families.read(name, families.small(name))
    prompt, batch = int(rng.integers(2, 9)), int(rng.integers(1, 3))
    chunks = (prompt, *rng.choice([1, 1, 2, 3], size=rng.integers(1, 4)).tolist())
    return Case(config, batch, chunks, sum(chunks) + int(rng.integers(0, 3))), rng


def weights(case, seed):
    make = numbers(seed, case.config.vocab_size)
    return {key: make(shape, np.float32) for key, shape in case.config.shapes().items()}


def passes(model, case, rows):
    """The logits of each pass, as bare arrays."""
    cache, found, at = model.new_cache(case.batch, case.capacity), [], 0
    for T in case.chunks:
        found.append(bare(model(rows[:, at : at + T], cache, "all")).copy())
        at += T
    return found


def bare(x):
    return x.data if type(x) is Counted else x


def same(some, others):
    return all(np.array_equal(x, y) for x, y in zip(some, others, strict=True))


def moved(seed):
    """A function that makes other numbers of an array, the same of the same."""

    def function(value):
        noise = np.random.default_rng(seed).standard_normal(value.shape)
        return (0.5 * bare(value) + noise).astype(value.dtype)

    return function


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [*NAMES, "qwen2_moe", "gpt_oss", "falcon, groups", "gemma2"])
def test_it_gives_what_a_model_gives_whose_part_was_changed(name, seed):
    case, rng = drawn(name, seed)
    lm, other = small(case, seed), build(case.config, weights(case, seed))
    rows = rows_of(case, rng)
    unchanged = passes(build(case.config, weights(case, seed)), case, rows)
    known = set(giving(lm.model))
    parts = [part for part in other.modules() if type(part) in ENDING and part.path in known]
    parts = [part for part in parts if part.path not in ("", "wpe")]  # those are more than a part
    chosen = {part.path: part for part in rng.choice(parts, size=3)}
    for i, part in enumerate(chosen.values()):
        change(part, moved(seed + i))
    functions = {path: moved(seed + i) for i, path in enumerate(chosen)}
    with intervene(lm, functions):
        found = passes(lm.model, case, rows)
    assert same(found, passes(other, case, rows)), chosen.keys()
    met = any(".experts." not in path for path in chosen)
    assert not same(found, unchanged) or not met
    assert same(passes(lm.model, case, rows), unchanged)  # afterwards it is as it was


def change(part, function):
    forward = part.forward
    part.forward = lambda *args: function(forward(*args))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_pattern_of_ones_own_is_what_values_are_mixed_by(name, seed, monkeypatch):
    case, rng = drawn(name, seed)
    rows = rows_of(case, rng)
    lm, real, layer, seen = small(case, seed), ops.softmax, int(rng.integers(4)), []
    path = f"h.{layer}.attn.softmax" if name == "gpt2" else f"model.layers.{layer}.*.softmax"
    with intervene(lm, {path: moved(seed)}):
        found = passes(lm.model, case, rows)

    def softmax(scores, mask):
        seen.append(scores.shape)
        mine = (len(seen) - 1) % 4 == layer
        return moved(seed)(real(scores, mask)) if mine else real(scores, mask)

    monkeypatch.setattr(ops, "softmax", softmax)
    assert same(found, passes(build(case.config, weights(case, seed)), case, rows))
    assert len(seen) == 4 * len(case.chunks)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_with_the_stream_of_another_text_it_says_what_it_says_of_that(name, seed):
    """From a layer on all is as in the other text, the keys and values too."""
    case, rng = drawn(name, seed)
    case = Case(case.config, 1, case.chunks, case.capacity)
    lm, one, other = small(case, seed), rows_of(case, rng), rows_of(case, rng)
    path = rng.choice([path for path in giving(lm.model) if path.rpartition(".")[2].isdigit()])
    streams = []
    with intervene(lm, {path: lambda value: streams.append(value.data.copy()) or value}):
        wanted = passes(lm.model, case, other)
    streams = iter(streams)
    with intervene(lm, {path: lambda value: next(streams)}):
        assert same(passes(lm.model, case, one), wanted)
    assert not same(passes(lm.model, case, one), wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_head_without_a_result_is_a_head_whose_rows_are_zero(seed):
    case, rng = drawn("gpt2", seed)
    lm, rows, held = small(case, seed), rows_of(case, rng), weights(case, seed)
    layer, head, D = int(rng.integers(4)), int(rng.integers(4)), case.config.head_dim
    held[f"h.{layer}.attn.c_proj.weight"][head * D : (head + 1) * D] = 0.0

    def without(value):  # (B, T, H, D)
        value[:, :, head] = 0.0
        return value

    with intervene(lm, {f"h.{layer}.attn.av": without}):
        assert same(passes(lm.model, case, rows), passes(build(case.config, held), case, rows))


@pytest.mark.parametrize("name", families.CASES)
def test_what_changes_nothing_changes_neither_logits_nor_counts_nor_memory(name):
    case, rng = drawn(name, len(name))
    rows, runs = rows_of(case, rng), []
    called = []
    for functions in ({}, {"*": lambda value: called.append(value.path) or value}):
        lm = small(case)
        with intervene(lm, functions):
            logits = passes(lm.model, case, rows)
        gc.collect()
        ledger = lm.ledger
        runs.append((logits, dict(ledger.snapshot()), ledger.live_bytes, ledger.peak_bytes))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1:] == runs[1][1:]
    assert {*called} <= {*giving(lm.model)}
    assert len(called) == sum(map(len, of_each(lm, case, rows)))


def of_each(lm, case, rows):
    """The paths of each pass that gave anything, as `run_with_cache` finds them."""
    cache, at = lm.model.new_cache(case.batch, case.capacity), 0
    for T in case.chunks:
        yield run_with_cache(lm, rows[:, at : at + T], cache=cache, logits="all")[1]
        at += T


@pytest.mark.parametrize("name", families.CASES)
def test_weights_and_memory_are_what_they_were(name):
    case, rng = drawn(name, len(name))
    lm, rows = small(case, 1), rows_of(case, rng)
    live = lm.ledger.live_bytes

    def other(value):
        return moved(2)(value) if value.dtype.kind == "f" else value

    with intervene(lm, {"*": other}), np.errstate(all="ignore"):
        passes(lm.model, case, rows)
    held = weights(case, 1)
    assert same(passes(lm.model, case, rows), passes(build(case.config, held), case, rows))
    gc.collect()
    assert lm.ledger.live_bytes == live


def rows_of(case, rng):
    return rng.integers(case.config.vocab_size, size=(case.batch, sum(case.chunks)))


# What it costs.


def test_what_a_function_computes_is_charged_under_intervention_or_nowhere():
    case, rng = drawn("llama", 3)
    lm, rows = small(case), rows_of(case, rng)

    def counts(functions):
        before = lm.ledger.snapshot()
        with intervene(lm, functions):
            passes(lm.model, case, rows)
        return lm.ledger.snapshot() - before

    def uncharged(value):
        with uncounted(lm.ledger):
            return value * 0.5

    plain, charged = counts({}), counts({"model.layers.2": lambda value: value * 0.5})
    assert dict(counts({"model.layers.2": uncharged})) == dict(plain)
    assert counts({"model.layers.2": moved(1)}).cost == plain.cost
    own = charged.where("intervention")
    assert own.cost == {"mul": case.batch * sum(case.chunks) * case.config.width}
    assert {key: row for key, row in charged.items() if key not in own} == dict(plain)


def test_it_holds_while_the_pass_is_not_counted():
    case, rng = drawn("gpt2", 4)
    lm, rows = small(case), rows_of(case, rng)
    with intervene(lm, {"h.1": moved(1)}):
        wanted = passes(lm.model, case, rows)
        with uncounted(lm.ledger):
            assert same(passes(lm.model, case, rows), wanted)
    with uncounted(lm.ledger), intervene(lm, {"h.1": moved(1)}):
        assert same(passes(lm.model, case, rows), wanted)


# Who else looks.


def test_what_is_kept_is_what_was_put_in_place():
    lm = load()
    with intervene(lm, {"h.2.attn.softmax": moved(1), "h.4": np.zeros_like}):
        kept = run_with_cache(lm, PROMPT, "h.*", logits="all")[1]
        said = [op for op in steps(lm, PROMPT, logits="all") if op.path == "h.4"][-1]
    assert np.array_equal(kept["h.2.attn.softmax"].data, moved(1)(run(lm)["h.2.attn.softmax"]))
    assert not kept["h.4"].data.any()
    assert not said.output.data.any()
    assert np.array_equal(kept["h.1"].data, run(lm)["h.1"].data)
    assert not np.array_equal(kept["h.3"].data, run(lm)["h.3"].data)


def run(lm):
    return run_with_cache(lm, PROMPT, "h.*")[1]


def test_of_several_each_is_given_what_the_one_before_gave():
    lm = load()
    first, second = moved(1), moved(2)
    with intervene(lm, {"h.3": first, "h.?": lambda value: second(value) * 1}):
        one = run_with_cache(lm, PROMPT, "h.3")[0]
    inner = {"h.?": lambda value: value if value.path == "h.3" else second(value)}
    with intervene(lm, {"h.3": first}), intervene(lm, inner), intervene(lm, {"h.3": second}):
        other = run_with_cache(lm, PROMPT, "h.3")[0]
    assert np.array_equal(one.data, other.data)


def test_a_function_may_run_the_model_itself():
    lm, calls = load(), []

    def function(value):
        calls.append(value.path)
        return run(lm)["h.0"]

    with intervene(lm, {"h.3": function}):
        kept = run_with_cache(lm, PROMPT, "h.3")[1]["h.3"]
    assert calls == ["h.3"]
    assert np.array_equal(kept.data, run(lm)["h.0"].data)


def test_parts_that_are_called_outside_of_a_pass_are_left_alone():
    lm = load()
    x = run(lm)["h.5"]
    plain = lm.model.h[2].mlp(x).data.copy()
    with intervene(lm, {"h.*": np.zeros_like, "wte": np.zeros_like}):
        assert np.array_equal(lm.model.h[2].mlp(x).data, plain)
        run(lm)
        assert np.array_equal(lm.model.h[2].mlp(x).data, plain)
        assert lm.model.wte(np.array([1])).data.any()


def test_an_observer_of_before_hears_on():
    lm, heard = load(), []
    observer = observing(lm.ledger, lambda path, *_: heard.append(path))
    with observer, intervene(lm, {"h.0": lambda value: value * 0.0}):
        lm.model(np.array([[1, 2]]), lm.model.new_cache(1, 2))
    assert "h.3.attn.softmax" in heard
    assert heard.count("intervention") == 1
    assert lm.ledger.observers == {}


def test_it_is_of_its_thread_and_those_that_it_hands_its_context_on_to():
    lm, found = load(), {}
    plain = run(lm)["h.5"].data

    def look(name):
        found[name] = run(lm)["h.5"].data

    with intervene(lm, {"h.1": np.zeros_like}):
        other = threading.Thread(target=look, args=("another",))
        other.start()
        other.join()

        async def within():
            await asyncio.to_thread(look, "its own")

        asyncio.run(within())
    assert np.array_equal(found["another"], plain)
    assert not np.array_equal(found["its own"], plain)


# Generation, and its recorded passes.


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_recorded_passes_step_aside_and_are_used_again(dtype, monkeypatch):
    if not machine():
        pytest.skip("there are no kernels here: .[fast]")
    ran, real = [], replay.Pass.run
    monkeypatch.setattr(replay.Pass, "run", lambda *args: ran.append(1) or real(*args))
    lm = load(dtype=dtype)
    options = {"max_new_tokens": 30, "temperature": 0.0}
    plain = [step.token for step in generate(lm, PROMPT, **options)]
    assert ran
    ran.clear()
    some = generate(lm, PROMPT, **options)
    found = [next(some).token for _ in range(10)]
    assert ran
    ran.clear()
    with intervene(lm, {"h.3.mlp.gelu": lambda value: value}):
        found += [next(some).token for _ in range(10)]
        assert not ran
        changed = []
        with intervene(lm, {"h.5": lambda value: -value}):
            changed = [step.token for step in generate(lm, PROMPT, **options)]
        assert not ran
    found += [step.token for step in some]
    assert ran
    assert found == plain
    assert changed != plain


def test_generation_goes_the_way_that_a_changed_model_goes():
    lm, other = load(), load()
    block = other.model.h[4]
    forward, act = block.mlp.c_proj.forward, moved(5)
    block.mlp.c_proj.forward = lambda x: Counted(act(forward(x)), other.ledger)
    cache, rows, wanted = (
        other.model.new_cache(1, 40),
        np.array([other.tokenizer.encode(PROMPT).ids]),
        [],
    )
    for _ in range(20):
        with observing(other.ledger, lambda *_: None):
            rows = other.model(rows, cache).data[:, -1].argmax(axis=-1)[:, None]
        wanted.append(rows.item())
    with intervene(lm, {"h.4.mlp.c_proj": act}):
        steps = list(generate(lm, PROMPT, max_new_tokens=20, temperature=0.0))
    assert [step.token for step in steps] == wanted


def test_on_a_gpu_an_array_of_the_host_is_put_there(cupy):
    lm = load(device="cuda", dtype="float32")
    with intervene(lm, {"h.3": lambda value: np.ones(value.shape, value.dtype)}):
        kept = run_with_cache(lm, PROMPT, "h.3")[1]["h.3"]
        assert type(kept.data) is cupy.ndarray
    assert (kept.data.get() == 1).all()


# What is refused.


@pytest.mark.parametrize(
    ("glob", "said"),
    [
        ("h.3.attn.softmx", r"no path of shakespeare matches 'h\.3\.attn\.softmx': perhaps h\.3"),
        ("h.3.attn", r"no path of shakespeare matches 'h\.3\.attn': perhaps h\.3\.attn\.qk"),
        ("h.3.attn.cache", "no path of shakespeare matches"),  # written in place, it gives nothing
        ("", "no path of shakespeare matches ''"),
    ],
)
def test_a_glob_must_match_a_path_that_gives_something(glob, said):
    with pytest.raises(InputError, match=said), intervene(load(), {glob: np.zeros_like}):
        pytest.fail("it was let in")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda value: None, "the function for h.3 gave a NoneType; it must give an array"),
        (lambda value: 0.0, "the function for h.3 gave a float; it must give an array"),
        (
            lambda value: value[:, :1],
            r"gave \(1, 1, 256\) float32; what stands there is \(1, 7, 256\) float32",
        ),
        (
            lambda value: np.zeros(value.shape),
            r"gave \(1, 7, 256\) float64; what stands there is \(1, 7, 256\) float32",
        ),
    ],
)
def test_a_function_gives_an_array_of_the_same_shape_and_dtype(function, said):
    lm = load()
    with intervene(lm, {"h.3": function}), pytest.raises(InputError, match=said):
        run_with_cache(lm, PROMPT, "h.3")
    assert lm.ledger.observers == {}
    assert run(lm).keys() >= {"h.3"}

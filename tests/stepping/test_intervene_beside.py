"""`intervene`: what it costs, who else looks meanwhile, generation, and what is refused."""

import asyncio
import threading

import numpy as np
import pytest
from checkpoints import PROMPT
from gpu import stand_in  # noqa: F401
from interventions import drawn, moved, passes, rows_of, same
from stepped import small

from counting import Counted, observing, uncounted
from minigpt import InputError, generate, intervene, load, run_with_cache, steps
from minigpt.fast import machine, replay
from minigpt.stepping.values import giving

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


def test_an_expert_that_no_token_met_is_left_alone_after_the_pass():
    case, _ = drawn("qwen3_moe", 1)
    lm = small(case, 1)
    token, x = np.array([[5]]), np.ones((1, case.config.width), np.float32)
    met = run_with_cache(lm, token, "*.experts.*")[1]
    parts = {part.path: part for part in lm.model.modules()}
    unmet = [path for path in giving(lm.model) if ".experts." in path and path not in met]
    path = next(path for path in unmet if path.endswith("up_proj"))
    x = Counted(x, lm.ledger)
    plain = parts[path](x).data
    with intervene(lm, {path: np.zeros_like}):
        lm.model(token, lm.model.new_cache(1, 1))
        assert np.array_equal(parts[path](x).data, plain)


def test_what_a_debugger_computes_meanwhile_is_no_part_of_the_pass():
    lm = load()

    def look(path, charge, inputs, output):
        if path == "h.3.ln_1":
            with uncounted(lm.ledger):
                lm.model.unembed(output)

    def logits():
        rows = np.array([[1, 2, 3]])
        return lm.model(rows, lm.model.new_cache(*rows.shape)).data

    with intervene(lm, {"ln_f": moved(1), "h.5": moved(2)}):
        wanted = logits()
        with observing(lm.ledger, look):
            assert np.array_equal(logits(), wanted)
    assert not np.array_equal(logits(), wanted)


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
    ("lm", "functions", "said"),
    [
        (load, {"h.3": 5}, r"functions\['h.3'\] is 5; it must be a function"),
        (load, {"h.3": np.sin, "h.4": None}, r"functions\['h.4'\] is None; it must be a function"),
        (load, {3: np.sin}, "a path in functions is 3; it must be a name"),
        (load, "h.3", "functions is 'h.3'; it must be a dict of functions by path"),
        (load, ["h.3"], r"functions is \['h.3'\]; it must be a dict of functions by path"),
        (load, np.sin, "functions is <ufunc 'sin'>; it must be a dict of functions by path"),
        (lambda: "gpt2", {"h.3": np.sin}, "lm is 'gpt2'; it must be what load gives"),
    ],
)
def test_what_is_no_function_by_path_is_named_before_a_pass_runs(lm, functions, said):
    with pytest.raises(InputError, match=said), intervene(lm(), functions):
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

"""Arguments from Python: what cannot be is named before anything runs."""

import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy

from counting import Counted
from minigpt import InputError, generate, load, run_with_cache, steps
from minigpt.checkpoint.chat import ChatTemplate
from minigpt.checkpoint.resolve import resolve
from minigpt.inference.generate import continuation, encode
from minigpt.inference.sample import Sampling, sample
from minigpt.models.routing import expected
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.hardware import catalogue, find
from minigpt.planning.options import Options
from minigpt.planning.plan import plan
from minigpt.recording.read import read


@pytest.fixture(scope="module")
def lm():
    return load()


NEVER = (  # no argument is one of these
    *(object(), b"ab", {}, {1, 2}, 2 + 3j, Decimal(2), Fraction(1, 2), ..., [None]),
    *(np.array([1.5, 2]), float("nan"), np.float64("nan"), [[1, 2], [3]], [object()]),
    *(sympy.Symbol("n"), sympy.Symbol("n", positive=True, integer=True), Counted(np.ones(2))),
)
NUMBER = (*NEVER, "a", "", True, np.bool_(True), [], Path("x"))
WHOLE = (*NUMBER, 3.5, float("inf"), np.float32(1.0))
HALF = "\ud800"  # of a character
TEXT = (*NEVER, HALF, ["ab", HALF], 3, 3.5, True, None, np.int64(3), ["ab", 3])
NAME = (*(x for x in TEXT if x is not HALF), [], ["a"])
PATH = (*NEVER, 3, "a.json", "", True)
FLAT, RNG = np.zeros(3), np.random.default_rng(0)


def gpu(field):
    """What plans on an H100 of which a field says something else."""
    return lambda lm, x: plan("gpt2", resolve("gpt2"), find("h100")._replace(**{field: x}))


CALLS = {  # what is called with an argument, by its name, and what that cannot be
    "generate, max_new_tokens": (
        lambda lm, x: generate(lm, "ab", max_new_tokens=x),
        (*WHOLE, None),
    ),
    "generate, temperature": (lambda lm, x: generate(lm, "ab", temperature=x), (*NUMBER, None, -1)),
    "generate, top_k": (lambda lm, x: generate(lm, "ab", top_k=x), (*WHOLE, 0, 10**400)),
    "generate, top_p": (lambda lm, x: generate(lm, "ab", top_p=x), (*NUMBER, 0, 1.5)),
    "generate, seed": (lambda lm, x: generate(lm, "ab", seed=x), (*WHOLE, -1)),
    "generate, ignore_eos": (
        lambda lm, x: generate(lm, "ab", ignore_eos=x),
        (*NEVER, 1, "a", None),
    ),
    "generate, chat": (lambda lm, x: generate(lm, "ab", chat=x), (*NEVER, 1, "yes", None)),
    "generate, prompt": (lambda lm, x: generate(lm, x), TEXT),
    "generate, lm": (lambda lm, x: generate(x, "ab"), (*NAME, "ab")),
    "steps, tokens": (
        lambda lm, x: steps(lm, x),
        (*NEVER, -1, True, HALF, [1, 99_999], [[1.5]], None),
    ),
    "steps, cache": (lambda lm, x: steps(lm, "ab", x), (*NEVER, 3, "a")),
    "steps, logits": (lambda lm, x: steps(lm, "ab", logits=x), NAME),
    "run_with_cache, tokens": (lambda lm, x: run_with_cache(lm, x), (*NEVER, -1, [[-1]])),
    "run_with_cache, names": (lambda lm, x: run_with_cache(lm, "ab", x), NAME),
    "run_with_cache, budget": (
        lambda lm, x: run_with_cache(lm, "ab", budget=x),
        (*WHOLE, -1, None),
    ),
    "load, model": (lambda lm, x: load(x), (*NEVER, 3, None, True, ["a"])),
    "load, dtype": (lambda lm, x: load(dtype=x), NAME),
    "load, device": (lambda lm, x: load(device=x), NAME),
    "load, revision": (lambda lm, x: load(revision=x), (*NEVER, 3, True)),
    "load, engine": (lambda lm, x: load(engine=x), (*NEVER, 3, True)),
    "load, progress": (lambda lm, x: load(progress=x), (*NEVER, 3, "a")),
    "load, ring": (lambda lm, x: load(ring=x), (*NEVER, 3, "a", True, [], "")),
    "encode, prompts": (lambda lm, x: encode(lm, x), (*NEVER, "abc", None, 3, True, [HALF])),
    "continuation, prompts": (
        lambda lm, x: continuation(lm, x, Sampling()),
        (*NEVER, "abc", None, 3, True, [HALF]),
    ),
    "continuation, sampling": (
        lambda lm, x: continuation(lm, ["ab"], x),
        (*NEVER, None, "a", [], Sampling),
    ),
    "sample, logits": (
        lambda lm, x: sample(x, RNG),
        (None, 3, "abc", [1, 2], *map(np.array, ([[1, 2]], [], ["a"], [1, np.nan], [-np.inf]))),
    ),
    "sample, rng": (lambda lm, x: sample(FLAT, x), (*NEVER, None, 3, "a")),
    "sample, temperature": (lambda lm, x: sample(FLAT, RNG, x), (*NUMBER, None, -1, 10**400)),
    "sample, top_k": (lambda lm, x: sample(FLAT, RNG, top_k=x), (*WHOLE, 0, -1)),
    "sample, top_p": (lambda lm, x: sample(FLAT, RNG, top_p=x), (*NUMBER, 0, -1, 2)),
    "read, path": (lambda lm, x: read(x), (*PATH, None)),
    "catalogue, file": (lambda lm, x: catalogue(x), PATH),
    "count, model": (lambda lm, x: count(x), NAME),
    "count, sizes": (lambda lm, x: count("gpt2", x), (*NAME, "a")),
    "Pass, T": (lambda lm, x: count("gpt2", Pass(T=x)), (*WHOLE, 0, None, 10**30)),
    "Pass, B": (lambda lm, x: count("gpt2", Pass(B=x)), (*WHOLE, 0, None, int("9" * 30))),
    "Pass, N": (lambda lm, x: count("gpt2", Pass(N=x)), (*WHOLE, -1, None, 10**30)),
    "Pass, cache": (lambda lm, x: count("deepseek-v3", Pass(cache=x)), (*NEVER, "", "x", 3)),
    "Pass, assume": (
        lambda lm, x: count("mixtral-8x7b", Pass(assume=x)),
        (*NEVER, None, 3, "a", lambda *_: None, lambda *_: 10**9, lambda *_: expected),
    ),
    "Pass, dtype": (lambda lm, x: count("gpt2", Pass(dtype=x)), (*NAME, "a")),
    "Pass, capacity": (lambda lm, x: count("gpt2", Pass(2, 1, capacity=x)), (*WHOLE, 2, 10**12)),
    "plan, config": (lambda lm, x: plan("gpt2", x, find("h100")), (*NAME, "gpt2")),
    "plan, gpu": (lambda lm, x: plan("gpt2", resolve("gpt2"), x), (*NAME, "h100")),
    "plan, asked": (lambda lm, x: plan("gpt2", resolve("gpt2"), find("h100"), x), (*NAME, "a")),
    "Options, batch": (lambda lm, x: Options(batch=x), (*WHOLE, None)),
    "Options, gpus": (lambda lm, x: Options(gpus=x), (*WHOLE, None)),
    "Options, context": (lambda lm, x: Options(context=x), WHOLE),
    "Options, prompt": (lambda lm, x: Options(prompt=x), WHOLE),
    "a GPU, bandwidth": (gpu("bandwidth"), (*NUMBER, 0, -1, None)),
    "a GPU, link_bandwidth": (gpu("link_bandwidth"), (*NUMBER, -1, None)),
    "a GPU, memory": (gpu("memory"), (*WHOLE, -1, None, 10**40)),
    "a GPU, cache": (gpu("cache"), (*WHOLE, -1, None)),
    "a GPU, flops": (gpu("flops"), (None, "a", 3, [1e12])),
    "a GPU, the rate": (gpu("flops"), ({"float16/float32": 0}, {"float16/float32": "1"})),
    "a GPU, no rate": (gpu("flops"), ({3: 1j}, {"fp16": 1e12})),
    "a GPU, name": (gpu("name"), NAME),
    "Options, dtype": (lambda lm, x: Options(dtype=x), (*NEVER, 3, True)),
    "Sampling, top_k": (lambda lm, x: Sampling(top_k=x), (*WHOLE, 0)),
    "resolve, model": (lambda lm, x: resolve(x), NAME),
    "find, name": (lambda lm, x: find(x), NAME),
    "find, file": (lambda lm, x: find("h100", x), (*NEVER, 3, "a", True)),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_argument_that_cannot_be_is_named_before_anything_runs(lm, call):
    run, wrong = CALLS[call]
    what = call.split(", ")[1]
    alike = {"T": "T is|new tokens", "B": "B is|batch", "name": "name is|unknown GPU"}
    alike |= {"N": "N is|past", "assume": "assume", "the rate": "the rate of"}
    alike |= {"no rate": "there is no rate of"}
    known = alike.get(
        what, f"{what} is|{what}s? are|a prompt is|the prompt is empty|unknown {what}|no path"
    )
    before = lm.ledger.snapshot()
    for value in wrong:
        with pytest.raises(InputError, match=known) as error:
            run(lm, value)
        assert len(str(error.value)) < 1000
        assert "\n" not in str(error.value)
    assert not [*(lm.ledger.snapshot() - before).items()]


@pytest.mark.parametrize("seed", range(3))
def test_numbers_of_numpy_are_numbers(lm, seed):
    rng = random.Random(seed)
    given = {"max_new_tokens": rng.randint(1, 4), "top_k": rng.randint(1, 9), "seed": seed}
    shares = {"temperature": 0.5, "top_p": 0.75}
    plain = [step.token for step in generate(lm, "ab", **given, **shares)]
    whole = rng.choice((np.int64, np.int32, np.uint8))
    theirs = {key: whole(n) for key, n in given.items()}
    theirs |= {key: rng.choice((np.float32, np.float64))(x) for key, x in shares.items()}
    assert [step.token for step in generate(lm, "ab", **theirs)] == plain
    assert count("gpt2", Pass(whole(2), whole(1))).counts == count("gpt2", Pass(2, 1)).counts


def test_an_unknown_keyword_is_pythons_own_error(lm):
    with pytest.raises(TypeError, match="topk"):
        generate(lm, "ab", topk=3)


def test_a_cache_of_other_sequences_or_too_short_is_refused(lm):
    with pytest.raises(InputError, match="tokens are of 2 sequences, and cache is of 3"):
        run_with_cache(lm, [[1], [2]], cache=lm.model.new_cache(3, 4))
    with pytest.raises(InputError, match="capacity is 2; it must hold the 3 tokens"):
        steps(lm, [[1, 2, 3]], lm.model.new_cache(1, 2))


@pytest.mark.parametrize("seed", range(3))
def test_what_is_wrong_is_said_in_a_line_of_bounded_length(lm, seed):
    rng = random.Random(seed)
    ends = "".join(rng.choice("ab\n\r\x1b\u202e \t") for _ in range(40))
    name = "".join(rng.choice("abc") for _ in range(rng.randint(300, 100_000)))
    for run in (
        lambda: load(name),
        lambda: resolve(name),
        lambda: find(name),
        lambda: load(Path("/", *["a" * 200] * 50, name)),
        lambda: ChatTemplate("{{ raise_exception(messages[0].content) }}", {}, name).render(name),
        lambda: ChatTemplate("{{ raise_exception('" + name + "') }}", {}, "a file").render("a"),
        lambda: generate(lm, name + ends, top_k=name + ends),
        lambda: generate(lm, name + ends, max_new_tokens=3),
    ):
        with pytest.raises(InputError) as error:
            run()
        said = str(error.value)
        assert said.isprintable()
        assert len(said) <= 1000
        assert said == str(InputError(said))

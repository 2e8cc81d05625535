"""Arguments from Python: what cannot be is named before anything runs."""

import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from minigpt import InputError, generate, load, run_with_cache, steps
from minigpt.checkpoint.resolve import resolve
from minigpt.inference.sample import Sampling
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.hardware import find
from minigpt.planning.options import Options
from minigpt.planning.plan import plan


@pytest.fixture(scope="module")
def lm():
    return load()


NEVER = (  # no argument is one of these
    *(object(), b"ab", {}, {1, 2}, 2 + 3j, Decimal(2), Fraction(1, 2), ..., [None]),
    *(np.array([1.5, 2]), float("nan"), np.float64("nan"), [[1, 2], [3]], [object()]),
)
NUMBER = (*NEVER, "a", "", True, np.bool_(True), [], Path("x"))
WHOLE = (*NUMBER, 3.5, float("inf"), np.float32(1.0))
TEXT = (*NEVER, 3, 3.5, True, None, np.int64(3), ["ab", 3])
NAME = (*TEXT, [], ["a"])

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
    "steps, tokens": (lambda lm, x: steps(lm, x), (*NEVER, -1, True, [1, 99_999], [[1.5]], None)),
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
    "count, model": (lambda lm, x: count(x), NAME),
    "count, sizes": (lambda lm, x: count("gpt2", x), (*NAME, "a")),
    "Pass, T": (lambda lm, x: count("gpt2", Pass(T=x)), (*WHOLE, 0, None, 10**30)),
    "Pass, B": (lambda lm, x: count("gpt2", Pass(B=x)), (*WHOLE, 0, None, int("9" * 30))),
    "Pass, dtype": (lambda lm, x: count("gpt2", Pass(dtype=x)), (*NAME, "a")),
    "Pass, capacity": (lambda lm, x: count("gpt2", Pass(2, 1, capacity=x)), (*WHOLE, 2)),
    "plan, config": (lambda lm, x: plan("gpt2", x, find("h100")), (*NAME, "gpt2")),
    "plan, gpu": (lambda lm, x: plan("gpt2", resolve("gpt2"), x), (*NAME, "h100")),
    "plan, asked": (lambda lm, x: plan("gpt2", resolve("gpt2"), find("h100"), x), (*NAME, "a")),
    "Options, batch": (lambda lm, x: Options(batch=x), (*WHOLE, None)),
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

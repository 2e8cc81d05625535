"""What two models differ in, term by term, is all that they differ in."""

import random
import re
from functools import cache

import pytest
from families import CASES, kind, read, small

from minigpt.errors import InputError
from minigpt.formulas.difference import FIGURES, beside, difference, roles
from minigpt.formulas.drawn import draw
from minigpt.formulas.symbols import sizes
from minigpt.models.architectures import PRESETS
from minigpt.models.decoder_config import DecoderConfig
from minigpt.planning.forward import DTYPES, Pass, counts_by_kind, on_shapes

LINEAR = "qwen3_next"  # without closed forms
KINDS = sorted({kind(name) for name in CASES} - {LINEAR})


def assert_all_is_told(a, b, of):
    """The terms of each component add up to what its run on numbers says, in A and in B."""
    found = difference(a, b, of)
    counts = [counts_by_kind(config, of) for config in (a, b)]
    parts = beside(*counts, roles(a, b))
    for figure, price in FIGURES.items():
        terms = found.terms[figure]
        for i in (0, 1):
            assert sum(term.values[i] for term in terms) == price(on_shapes((a, b)[i], of).counts)
        for component, figures in parts.items():
            of_it = [term.values for term in terms if term.component == component]
            assert figures[figure] == (sum(v.a for v in of_it), sum(v.b for v in of_it))
        assert {term.component for term in terms} <= parts.keys()
        changes = [abs(term.values.difference) for term in terms]
        assert changes == sorted(changes, reverse=True)
        for term in terms:
            for form, value in zip(term.forms, term.values, strict=True):
                assert form is not None or value == 0
    return found


@pytest.mark.parametrize("seed", range(4))
def test_of_two_models_that_have_a_name_the_terms_are_the_difference(seed):
    rng = random.Random(seed)
    named = [name for name in PRESETS if name != "qwen3-next-80b-a3b"]
    a, b = (PRESETS[name] for name in rng.sample(named, 2))
    T = rng.choice((1, rng.randint(2, 60)))
    N = rng.randint(0, 900)
    assert_all_is_told(a, b, Pass(T, N, rng.randint(1, 4), dtype=rng.choice([*DTYPES])))


@cache
def drawn(of_kind):
    """A small configuration of a family, of sizes that nobody chose where they can be drawn."""
    rng = random.Random(of_kind)
    name = rng.choice([name for name in CASES if kind(name) == of_kind])
    config = read(name, small(name))
    return draw(config, rng).config if isinstance(config, DecoderConfig) else config


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_of_a_model_of_each_family_beside_another_the_terms_are_the_difference(number):
    rng, order = random.Random(number), random.Random(0).sample(KINDS, len(KINDS))
    a, b = drawn(order[number - 1]), drawn(order[number])
    T, N = rng.choice((1, 3)), rng.randint(0, 5)
    assert_all_is_told(a, b, Pass(T, N, rng.randint(1, 2), dtype="float32"))


RAISED = {"²": 2, "³": 3}


def product(form, at):
    """What a term comes to, by how it is written: - 2 B T L d²."""
    value = -1 if form.startswith("- ") else 1
    for number, name, power in re.findall(r"(?:(\d+)|([A-Za-z]\w*?))([²³]?)(?: |$)", form):
        value *= (int(number) if number else at[name]) ** RAISED.get(power, 1)
    return value


@pytest.mark.parametrize("seed", range(3))
def test_a_term_comes_to_what_is_written(seed):
    rng = random.Random(seed)
    llama, gpt2 = drawn("llama"), PRESETS[rng.choice(["gpt2", "gpt2-xl"])]
    of = Pass(rng.randint(1, 4), rng.randint(0, 8), rng.randint(1, 3))
    at = []
    for config in (llama, gpt2):
        known = sizes(config) | {"B": of.B, "T": of.T, "N": of.N, "S": of.N + of.T}
        known["H"] = known.get("H") or known["K"] * known["G"]
        known["d"] = known.get("d") or known["H"] * known["D"]
        at.append(known)
    found, seen = difference(llama, gpt2, of), 0
    for term in (term for terms in found.terms.values() for term in terms):
        for form, value, known in zip(term.forms, term.values, at, strict=True):
            if form:
                assert product(form, known) == value, form
                seen += 1
    assert seen > 60
    for letter, pair in found.sizes.items():
        assert pair == (at[0].get(letter), at[1].get(letter))
        assert pair.a != pair.b


def test_more_layers_change_each_term_by_as_much():
    a = PRESETS["gpt2"]
    b = a.but(n_layer=7 * a.n_layer)
    found = assert_all_is_told(a, b, Pass(1, 100))
    assert found.sizes == {"L": (12, 84)}
    for terms in found.terms.values():
        for term in terms:
            assert term.forms[0] == term.forms[1]
            assert term.values.b == term.values.a * (7 if "L" in term.letters.split() else 1)


def test_a_term_that_one_model_has_alone_is_told_so():
    found = assert_all_is_told(PRESETS["gpt2"], PRESETS["llama-3.2-1b"], Pass(1, 3))
    [gated] = [t for t in found.terms["flops"] if t.component == "mlp" and t.letters == "B T L d F"]
    assert gated.forms == (None, "6 B T L d F")
    assert gated.values.a == 0
    assert found.sizes["F"] == (3072, 8192)
    assert found.sizes["C"] == (1024, None)
    assert "rope" in {term.component for term in found.terms["flops"] if not term.forms[0]}


def test_a_model_without_closed_forms_has_no_terms():
    with pytest.raises(InputError, match="has no closed forms"):
        difference(PRESETS["gpt2"], PRESETS["qwen3-next-80b-a3b"])

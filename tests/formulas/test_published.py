"""What is published, held against execution: deviations, and the reasons of the differences."""

import re
from functools import cache

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from counting.views import VIEWS
from minigpt.formulas.claims import MEASURES, PASSES, claimed, executed, explain, hold, n
from minigpt.formulas.closed_forms import LETTERS, D, H, L, V, formulas
from minigpt.formulas.figures import part_of, sizes
from minigpt.formulas.notation import plain
from minigpt.formulas.published import PUBLISHED, SOURCES
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config
from minigpt.planning.forward import Pass, forward

XL = GPT2_SIZES["gpt2-xl"]
d = H * D

FORMS = cache(lambda scores="full": formulas(XL, dtype="float16", scores=scores))


@pytest.fixture(scope="module")
def claims():
    return hold(XL, "gpt2-xl", [(1, 0), (1, 1023)])


def found(claims, source, where, keys=1):
    return next(
        c
        for c in claims
        if c.published.source == source and where in c.published.where and c.n == keys
    )


# GPT-2 XL, one token at 1 key and at 1024, in percent, in the terms of each source
DEVIATIONS = {
    ("kipply", "2P FLOP"): (0.16, -9.03),
    ("kipply", "flops counting"): (-5.18, -13.88),
    ("Kaplan", "2N, N ="): (-5.18, -13.88),
    ("Kaplan", "eq. 2.2"): (-5.18, -4.93),
    ("Kaplan", "blocks alone"): (-0.01, -0.00),
    ("Kaplan", "mask"): (-50.00, -0.10),
    ("nanoGPT", "6N alone"): (0.05, -9.13),
    ("nanoGPT", "6N + 12LHQT"): (10.17, 0.06),
    ("PaLM", "appendix B"): (0.06, 0.06),
    ("Megatron", "forward pass"): (0.00, 0.00),
    ("Megatron", "eq. 3"): (0.00, 0.00),
    ("Megatron 2022", "model FLOPs"): (0.00, 0.00),
    ("llm.c", "6N + 6LCT"): (0.16, 0.16),
    ("cookbook", "without options"): (0.00, 0.00),
    ("cookbook", "--no-checkpoint"): (0.00, 0.00),
    ("cookbook", "--infer"): (10.34, 9.39),
}


@pytest.mark.parametrize("row", DEVIATIONS, ids=" ".join)
def test_deviations(claims, row):
    for keys, percent in zip((1, 1024), DEVIATIONS[row], strict=True):
        assert found(claims, *row, keys).deviation == pytest.approx(percent, abs=0.01)


REASONS = {
    ("article", "headline"): [
        "2 d² V should be 2 d V: one factor d too many",
        "missing 4 L d n: scores and values over the n keys",
    ],
    ("article", "eq. 4: q kᵀ"): ["2 D should be 2 D n: a factor n is missing"],
    ("article", "eq. 4: softmax(…) v"): ["2 d should be 2 D n: H in the place of n"],
    ("article", "token and position"): [],
    ("kipply", "2P FLOP"): [
        "missing 4 L d n: scores and values over the n keys",
        "extra 26 L d + 4 d: norms and biases, which multiply no matrix",
        "extra 2 d C: the position table, which is looked up",
    ],
    ("Kaplan", "eq. 2.2"): [
        "missing 2 d V: logits",
        "missing 2 L d: scores and values",
    ],
    ("llm.c", "6N + 6LCT"): [
        "extra 78 L d + 12 d: norms and biases, which multiply no matrix",
        "extra 6 d C: the position table, which is looked up",
        "missing 6 L d: scores and values",
    ],
    ("kipply", "small batch"): [
        "missing 4 L d n / W: scores and values over the n keys",
        "extra 2 d C / W: the position table, which is looked up",
        "4 d / W should be 8 d / W: half of adding embedding rows and layer norms",
    ],
    ("cookbook", "--infer"): ["6 d V should be 2 d V: 3 times logits"],
    ("Chinchilla", "forward"): [
        "4 d n V should be 2 d n V: 2 times logits",
        "extra 3 L H n²: softmax, which multiplies no matrices",
    ],
    ("Megatron", "forward pass"): [],
}


@pytest.mark.parametrize("row", REASONS, ids=" ".join)
def test_reasons(claims, row):
    assert sorted(found(claims, *row).reasons) == sorted(REASONS[row])


def test_explain_names_every_term_of_a_difference():
    parts = {"scores": 2 * L * d * n, "values": 2 * L * d * n, "logits": 2 * d * V}
    said = 3 * L * d * n + 2 * d * V + 5 * L
    assert explain(said, parts, {"layers": L}) == [
        "3 L d n should be 4 L d n: 3/4 times scores and values over the n keys",
        "extra 5 L: layers",
    ]
    assert explain(sum(parts.values()), parts, {}) == []
    parts = {"values": L * V, "scores": L * d * n}  # what differs in one letter comes first
    assert explain(L * d, parts, {})[0].startswith("L d should be L d n: a factor n is missing")


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.source} {row.where}")
def test_a_formula_is_exact_if_and_only_if_no_reason_is_given(row):
    forms = FORMS(row.scores)
    said, parts = claimed(row, forms), executed(row, forms)
    exact = sympy.expand(said - sum(parts.values())) == 0
    assert exact == (not explain(said, parts, {}))


FLOP = [row for row in PUBLISHED if row.of == "flop"]


@settings(max_examples=25)
@given(st.integers(1, 4), *[st.integers(1, 10**4)] * 4, st.integers(0, 10**3))
def test_what_is_called_executed_is_counted(layers, heads, width, vocab, keys, spare):
    config = GPT2Config(vocab, keys + spare, heads * width, layers, heads)
    values = {LETTERS[name]: sympy.Integer(size) for name, size in sizes(config).items()}
    values[n] = sympy.Integer(keys)
    one, whole = (forward(config, Pass(*at)).counts for at in ((1, keys - 1), (keys, 0)))
    for row, ours in zip(FLOP, EXECUTED(), strict=True):
        if row.scores == "causal":
            continue
        counts = one if row.scope == "token" else whole
        parts, blocks = counts.by(part_of), counts.where("h.*").by(part_of)
        price, (often, outside) = VIEWS[row.view], PASSES[row.mode]
        counted = sum(
            outside * price(parts[name])
            + (often - outside) * (price(blocks[name]) if name in blocks else 0)
            for name in row.part or parts
        )
        per = sympy.sympify(row.per, locals={"L": layers, "H": heads})
        times = keys if row.scope == "mean" else 1
        assert ours.xreplace(values) * per * times == counted


EXECUTED = cache(
    lambda: [sympy.expand(sum(executed(row, FORMS(row.scores)).values())) for row in FLOP]
)


@settings(max_examples=15)
@given(*[st.integers(1, 5)] * 3, st.integers(1, 12))
def test_the_causal_mean_is_that_of_tokens_decoded_one_after_another(layers, heads, width, keys):
    config = GPT2Config(7, keys, heads * width, layers, heads)
    values = {LETTERS[name]: sympy.Integer(size) for name, size in sizes(config).items()}
    values[n] = sympy.Integer(keys)
    tokens = [forward(config, Pass(N=i)).counts for i in range(keys)]
    causal = [(row, ours) for row, ours in zip(FLOP, EXECUTED(), strict=True) if "causal" in row]
    assert {row.source for row, _ in causal} == {"Kaplan", "llm.c"}
    for row, ours in causal:
        assert row.view == "matmul"
        counted = 0
        for parts in (counts.by(part_of) for counts in tokens):
            counted += sum(VIEWS["matmul"](parts[name]) for name in row.part or parts)
        assert ours.xreplace(values) * keys == counted * {"forward": 1, "training": 3}[row.mode]


def test_recomputation_runs_the_blocks_once_more_and_not_the_logits():
    row = next(row for row in PUBLISHED if "eq. 3: 96" in row.where)
    (claim,) = hold(XL, "gpt2-xl", [(1, 1023)], [row])
    whole = forward(XL, Pass(1024)).counts
    head = VIEWS["matmul"](whole.where("lm_head"))
    assert claim.executed == 4 * (VIEWS["matmul"](whole) - head) + 3 * head == claim.value


def test_new_tokens_after_cached_ones_are_so_many_tokens_at_all_the_keys():
    (claim,) = hold(XL, "gpt2-xl", [(16, 100)], [p for p in PUBLISHED if "2 · 12" in p.where])
    assert claim.n == 116
    assert claim.value == 16 * 24 * 48 * 1600**2
    assert claim.executed == VIEWS["matmul"](forward(XL, Pass(16, 100)).counts)


def test_a_width_of_its_own_is_a_term_of_its_own():
    config = GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=9, n_positions=4, n_inner=5)
    (claim,) = hold(config, "other", [(1, 0)], [p for p in PUBLISHED if "eq. 6" in p.where])
    assert claim.executed == 2 * 2 * 8 * 5
    assert claim.reasons == ("missing 4 d F: feed-forward layer", "extra 16 d²: nothing costs this")


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.source} {row.where}")
def test_rows_are_whole(row):
    assert row.source in SOURCES
    assert row.of in MEASURES
    letters = set(re.findall(r"[A-Za-z]+", row.formula))
    assert letters <= set("LdHDnVCPAWM")


def test_every_equation_of_the_article_is_there():
    places = " ".join(row.where for row in PUBLISHED if row.source == "article")
    assert {int(number) for number in re.findall(r"eq\. (\d+)", places)} == set(range(1, 11))
    assert {row.source for row in PUBLISHED} == set(SOURCES)


def test_rows_about_another_model_are_left_out(claims):
    assert any(c.published.model == "gpt2-xl" for c in claims)
    assert not any(c.published.model for c in hold(GPT2_SIZES["gpt2"], "gpt2", [(1, 0)]))


def test_plain_forms_in_the_table_are_executed(claims):
    assert found(claims, "article", "headline").executed_form == plain(
        sum(executed(PUBLISHED[0], FORMS()).values())
    )

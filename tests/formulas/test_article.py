"""The article, claim by claim: quoted exactly, judged by execution."""

import json
import re

import pytest
from checkpoints import ROOT
from typer.testing import CliRunner

from minigpt.cli import app
from minigpt.commands.article import HEADINGS, document, markdown
from minigpt.formulas.article import answer as article_answer
from minigpt.formulas.article import memory as article_memory
from minigpt.formulas.article.answers import answers
from minigpt.formulas.published import ARTICLE
from minigpt.planning.hardware import GPUS

ARTICLE_TEXT = ROOT.parent / "shared" / "article.md"


@pytest.fixture(scope="module")
def found():
    return answers()


@pytest.fixture(scope="module")
def text():
    if not ARTICLE_TEXT.exists():
        pytest.skip("the article is not beside this checkout")
    return ARTICLE_TEXT.read_text(encoding="utf-8")


def test_every_quote_is_in_the_article_word_for_word(found, text):
    assert [quote for one in found for quote in one.quotes if quote not in text] == []


def test_answers_come_in_the_order_of_the_article(found, text):
    places = [text.index(one.quotes[0]) for one in found]
    assert places == sorted(places)


def test_every_equation_and_every_row_of_a_table_is_answered(found, text):
    quoted = " ".join(quote for one in found for quote in one.quotes)
    assert {f"({n})" for n in re.findall(r"\\tag\{(\d+)\}", text)} == {
        f"({n})" for n in re.findall(r"\\tag\{(\d+)\}", quoted)
    }
    for row in re.findall(r"^ +((?:GPT2|Llama)[^\n\\&]*&)", text, re.MULTILINE):
        assert row in quoted


def test_nothing_of_the_draft_alone_is_held_against_the_article():
    assert "1.542" not in markdown()


def test_what_the_tables_quote_is_in_the_article(text):
    for _, *said in ARTICLE.values():
        assert all(figure in text for figure in said)


# A part of the quote, the verdict, and what the answer must say. The figures are worked out here
# by hand from the sizes of the models, or are those of data sheets.
EXPECTED = [
    ("671 billion", "right", "671,026,419,200"),
    ("hundreds of billions", "right", "405,853,388,800"),
    ("time taken for the forward pass", "condition", "a single token for memory, 8.65 ms"),
    ("single new token", "right", "`24 L d² + 2 d V`, however many"),
    (r"2.d_{vocab}.d_{model}^2", "wrong", "84 times"),
    ("2x3", "right", "(2, 4), 8 elements"),
    ("3 multiplication operations", "right", "3 multiplications and 2 additions; 20 = 20"),
    ("$n-1$ multiplications", "wrong", "n multiplications and n - 1 additions"),
    (r"\approx 2n", "right", "2 n - 1"),
    (r"\tag{1}", "right", "`2 n m p - m p`"),
    (r"\frac{d_{model}}{n_{heads}}", "condition", "queries and keys of 192 and values of 128"),
    ("W_{Q}t_{e}^{T}", "wrong", "NumPy refuses (1600, 64) by (1600, 1)"),
    (r"\tag{2}", "right", "`2 D d`"),
    ("calculate k and v", "condition", "2 d² for q and 1 d² for k and v in Llama 3.1 8B"),
    (r"\tag{3}", "right", "`6 d²`"),
    ("qk^T = 2.d_{k}", "wrong", "`2 D n`"),
    (r"\right) = 2.d_{k}", "wrong", "n - 1 comparisons, 2 n - 1 subtractions and additions"),
    (".v = 2.d_{model}", "wrong", "`2 D n`"),
    (r"\tag{4}", "wrong", "`4 d n` of it in the two products"),
    ("Concatenation", "right", "0 FLOP"),
    (r"\tag{5}", "right", "`2 d²`"),
    ("zero bias", "right", f"{48 * 9 * 1600:,} additions"),
    ("two linear layers", "condition", "3 matrices, 14336 = 3.5 d wide, 21 d² FLOP"),
    ("x4d_{model}}", "condition", "3 matrices, 53248 = 3.25 d wide, 19.5 d² FLOP"),
    (r"\tag{6}", "right", "`16 d²`"),
    (r"\tag{7}", "condition", "10.7 % more at 1024 keys"),
    (r"\tag{7}", "condition", "26 d² in Llama 3.1 8B and 23.75 d² in Llama 3.1 405B"),
    ("sufficiently large", "condition", "68.72 GFLOP, 4.6 times"),
    ("sufficiently small", "right", "16 L d"),
    ("no matrix multiplication", "right", "`0` FLOP of matrix products, and `d` additions"),
    (r"\tag{8}", "wrong", "`2 d V`"),
    ("1.55B", "right", "1,557,611,200 parameters"),
    ("128000", "wrong", "128,256"),
    ("0.260T", "wrong", "3.110 GFLOP for GPT-2 XL at one key"),
    ("4.307T", "wrong", "15.01 GFLOP for Llama 3.1 8B at one key"),
    ("69.53T", "wrong", "807.5 GFLOP for Llama 3.1 405B at one key"),
    ("101T", "condition", "51 dense with fp16 accumulation, 102 if 2:4 sparse; 25.5 dense"),
    (r"\frac{101}{4.307}", "wrong", "24 tokens a second at most"),
    ("FP16), each parameter", "right", "2 bytes a parameter"),
    ("16GB", "right", "16.06 GB: it does not fit"),
    ("about 3GB", "right", "3.115 GB: it fits"),
    ("depends on the previous", "right", "1 of 5 positions change if the last is"),
    ("Attention(Q,K,V)", "right", "agree"),
    ("matrices of dimensions $d_{model}xn_s$", "wrong", "Q Kᵀ is then (d, d)"),
    ("quadratically", "right", "`2 d n²`"),
    ("wasteful", "right", "`4 d² n` a layer, instead of `4 d²`"),
    ("computation linear", "condition", "`2 d n` a layer for one token; `d n² + d n`"),
    (r"\tag{10}", "right", "`4 L d` bytes"),
    ("0.307GB\\", "right", "0.3072 GB"),
    ("0.524GB", "wrong", "0.131 GB"),
    ("8.25GB", "wrong", "0.516 GB"),
    ("30k$ tokens", "condition", "sequences of 1024"),
    ("linearly with both $n_{layers}$", "right", "2 times the bytes with twice the layers"),
    ("and embedding size", "condition", "layers 3.94-fold and the cache of a token 3.94-fold"),
]


@pytest.mark.parametrize(("quoted", "verdict", "figure"), EXPECTED)
def test_each_claim_gets_the_verdict_and_the_figure_of_execution(found, quoted, verdict, figure):
    said = [one for one in found if any(quoted in f"{quote}\\" for quote in one.quotes)]
    assert [one for one in said if one.verdict == verdict and figure in one.executed]


def test_no_claim_stands_under_two_verdicts(found):
    quotes = [quote for one in found for quote in one.quotes]
    assert len(quotes) == len(set(quotes))
    assert {one.verdict for one in found} == set(HEADINGS)


def test_the_answers_to_23_tokens_say_why_it_is_close(found):
    (one,) = (one for one in found if any(r"\approx 23" in quote for quote in one.quotes))
    assert "close, for another reason" in one.reason
    assert "sets memory aside" in one.reason
    assert "1,699" in one.executed  # 25.5e12 / 15.01e9


def test_figures_of_hardware_follow_the_table_of_hardware(monkeypatch):
    other = GPUS["rtx-3090"]._replace(memory=10 * 2**30)
    article_answer.planned.cache_clear()
    for room in (article_answer, article_memory):
        monkeypatch.setattr(room, "GPU", other)
    told = " ".join(one.executed for one in answers())
    article_answer.planned.cache_clear()
    for figure in (other.name, "936 GB/s", "142 dense", "35.6 without tensor cores", "10 GiB"):
        assert figure in told


def test_markdown_has_a_table_for_each_verdict(found):
    told = markdown()
    for verdict, heading in HEADINGS.items():
        table = told.split(f"### {heading}\n\n")[1].split("\n\n")[0].splitlines()
        assert len(table) == 2 + sum(one.verdict == verdict for one in found)
        assert {row.count(" | ") for row in table} == {3}
    assert "### Its tables, made right" in told


def test_the_command(found):
    shown = CliRunner().invoke(app, ["article"])
    assert shown.output == markdown() + "\n"
    told = json.loads(CliRunner().invoke(app, ["article", "--json"]).output)
    assert told == json.loads(json.dumps(document()))
    assert told["schema"] == 1
    assert [one["number"] for one in told["answers"]] == list(range(1, len(found) + 1))
    assert told["answers"][0]["quotes"] == list(found[0].quotes)
    assert told["tables"][0][0]["parameters"] == "1,557,611,200"


def test_what_the_documents_show_of_it_is_what_it_prints():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    shown = [path for path in documents if "### What is wrong" in path.read_text(encoding="utf-8")]
    if not shown:
        pytest.skip("no document shows the answers to the article")
    for path in shown:
        assert markdown() in path.read_text(encoding="utf-8")

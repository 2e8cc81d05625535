"""The article "Transformers FLOPS and memory usage", claim by claim: right, conditional, wrong.

Claims are quoted in the article's words, in its order. What is said of them is executed, or comes
from the table of hardware.
"""

import json
from typing import Any

from minigpt.formulas.article import flop as article_flop
from minigpt.formulas.article import memory as article_memory
from minigpt.formulas.article import products as article_products
from minigpt.formulas.article import tables as article_tables
from minigpt.formulas.article.answer import Answer
from minigpt.schema import SCHEMA

HEADINGS = {
    "right": "What is right",
    "condition": "What holds with a condition",
    "wrong": "What is wrong",
}


LEGEND = (
    "Every claim of the article, in its own words and numbered in its order, beside what execution "
    "gives. d is the width of the model, D or d_k of a head; H heads, L layers, V tokens in the "
    "vocabulary, n keys in the cache; 16-bit elements."
)


def answers() -> list[Answer]:
    """Every claim of the article, in its order."""
    return [
        article_memory.state_of_the_art(),
        article_flop.what_is_counted(),
        *article_memory.rates(),
        article_flop.with_a_cache(),
        *article_flop.headline(),
        *article_products.products(),
        article_flop.sub_blocks(),
        *article_products.shapes(),
        *article_flop.a_block_of_gpt2(),
        *article_flop.other_layers(),
        *article_flop.table(),
        *article_memory.hardware(),
        *article_memory.parameters(),
        *article_products.attention_of_a_sequence(),
        *article_memory.kv_cache(),
    ]


def markdown() -> str:
    """The answers as Markdown: a table for each verdict, then the article's tables made right."""
    numbered = list(enumerate(answers(), 1))
    parts = [LEGEND]
    for verdict, heading in HEADINGS.items():
        rows = [("", "the article", "execution", "why"), ("---",) * 4]
        rows += [
            (
                str(i),
                " … ".join(f"`{quote}`" for quote in found.quotes),
                found.executed,
                found.reason,
            )
            for i, found in numbered
            if found.verdict == verdict
        ]
        parts.append(f"### {heading}\n\n{article_tables.as_markdown(rows)}")
    return "\n\n".join([*parts, f"### Its tables, made right\n\n{article_tables.markdown()}"])


def document() -> dict[str, Any]:
    """The answers as `article --json` prints them."""
    told = [{"number": i, **found._asdict()} for i, found in enumerate(answers(), 1)]
    return {"schema": SCHEMA, "answers": told, "tables": article_tables.document()}


def run(as_json: bool = False) -> None:
    """Prints the answers: the `article` command."""
    print(json.dumps(document()) if as_json else markdown())

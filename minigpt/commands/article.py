"""The `article` command: its claims, right, conditional and wrong, as Markdown or as JSON."""

import json
from collections.abc import Sequence
from typing import Any

from minigpt.formulas.article import tables
from minigpt.formulas.article.answers import answers
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


def run(as_json: bool = False) -> None:
    """Prints the answers: the `article` command."""
    print(json.dumps(document()) if as_json else markdown())


def document() -> dict[str, Any]:
    """The answers as `article --json` prints them."""
    told = [{"number": i, **found._asdict()} for i, found in enumerate(answers(), 1)]
    corrected = [
        [dict(zip(head, row, strict=True)) for row in rows]
        for head, *rows in (tables.models(), tables.gpu())
    ]
    return {"schema": SCHEMA, "answers": told, "tables": corrected}


def markdown() -> str:
    """The answers as Markdown: a table for each verdict, then the article's tables made right."""
    numbered = list(enumerate(answers(), 1))
    parts = [LEGEND]
    for verdict, heading in HEADINGS.items():
        rows: list[tables.Row] = [("", "the article", "execution", "why")]
        rows += [
            (str(i), " … ".join(f"`{q}`" for q in found.quotes), found.executed, found.reason)
            for i, found in numbered
            if found.verdict == verdict
        ]
        parts += [f"### {heading}", _table(rows)]
    corrected = _table(tables.models()), _table(tables.gpu())
    return "\n\n".join([*parts, "### Its tables, made right", *corrected])


def _table(rows: Sequence[tables.Row]) -> str:
    head, *others = rows
    lines = (head, ("---",) * len(head), *others)
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)

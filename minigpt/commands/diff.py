"""The `diff` command: what two recordings, or two models, differ in, and by what."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from counting.table import table
from counting.views import flops, matmul
from minigpt.commands.count import document
from minigpt.commands.terminal import console
from minigpt.errors import InputError, without_effect
from minigpt.formulas.difference import Difference, Pair, Term, beside, difference, roles
from minigpt.planning.count import Count, count
from minigpt.planning.forward import Pass
from minigpt.recording.difference import asked, components, memory, phases
from minigpt.recording.read import Recording, read
from minigpt.schema import SCHEMA
from minigpt.storage.reading import regular

Parts = Mapping[str, Mapping[str, Pair]]  # by component and figure

OPTIONS = {"--new-tokens": "T", "--past": "N", "--batch": "B", "--dtype": "dtype"}
"""What of a pass may be asked for, by the option that says it."""

TITLES = {"flops": "FLOP", "bytes": "bytes moved"}
TOTALS: dict[str, Callable[[Count], int]] = {
    "FLOP": lambda of: flops(of.counts),
    "2mnp": lambda of: matmul(of.counts),
    "bytes read": lambda of: sum(of.counts.bytes_read.values()),
    "bytes written": lambda of: sum(of.counts.bytes_written.values()),
    "parameters": lambda of: of.config.parameters,
    "bytes of weights": lambda of: of.weight_bytes,
    "bytes of KV cache a token": lambda of: of.kv_bytes_per_token,
    "peak bytes": lambda of: sum(of.peak_bytes.values()),
}
COLUMNS, NONE = ("A", "B", "B - A"), "-"
MOST = 60  # characters of a value: a prompt may be a book

SMALL = 1000
"""Terms that changed by less than this part of what all did are told together."""


def run(a: str, b: str, options: Mapping[str, Any], as_json: bool = False) -> None:
    """Prints what differs.

    Args:
        a, b: recordings, or models by any name that `count` takes.
        options: by the names of `OPTIONS`; None if not given.

    Raises:
        InputError: one is a recording and the other is not, or see `read` and `count`.
    """
    recorded = [_recorded(name) for name in (a, b)]
    if all(recorded):
        without_effect(options, "recordings, which say what ran")
        runs = read(Path(a)), read(Path(b))
        if as_json:
            print(json.dumps(of_runs(*runs)))
        else:
            _print(_runs(*runs))
    elif any(recorded):
        one, other = (a, b) if recorded[0] else (b, a)
        raise InputError(
            f"{one} is a recording and {other} is none: give two files that generate --record "
            "wrote, or two models"
        )
    else:
        given = {OPTIONS[name]: value for name, value in options.items() if value is not None}
        models = count(a, Pass(**given)), count(b, Pass(**given))
        if as_json:
            print(json.dumps(of_models(*models)))
        else:
            _print(_models(*models))


def _recorded(name: str) -> bool:
    """Whether it is the file of a recording, or is called so."""
    path = Path(name)
    if path.suffix == ".jsonl":
        return True
    try:
        with regular(path, longest=None) as file:
            return b'"type": "run"' in file.read(64)
    except OSError:
        return False


def of_models(a: Count, b: Count) -> dict[str, Any]:
    """What two models differ in as JSON: pairs are lists of A's and B's, `why_no_terms` says so."""
    found, parts, why = _of_models(a, b)
    told = {"schema": SCHEMA, "a": document(a), "b": document(b), "components": parts}
    if not found:
        return told | {"why_no_terms": why}
    terms = {
        figure: [{"component": t.component, "forms": t.forms, "values": t.values} for t in some]
        for figure, some in found.terms.items()
    }
    return told | {"sizes": found.sizes, "terms": terms}


def of_runs(a: Recording, b: Recording) -> dict[str, Any]:
    """What two runs differ in as JSON: pairs are lists of A's and B's."""
    return {
        "schema": SCHEMA,
        "a": str(a.path),
        "b": str(b.path),
        "notes": _notes(a, b),
        "asked": asked(a, b),
        "phases": phases(a, b),
        "components": components(a, b),
        "peak_bytes": memory(a, b),
    }


def _of_models(a: Count, b: Count) -> tuple[Difference | None, Parts, str]:
    """Their terms, their components, and why there are no terms if there are none."""
    try:
        found = difference(a.config, b.config, a.sizes)
    except InputError as error:
        return None, beside(a.kinds, b.kinds), str(error)
    return found, beside(a.kinds, b.kinds, roles(a.config, b.config)), ""


def _notes(a: Recording, b: Recording) -> list[str]:
    return [f"{one.path}: {note}" for one in (a, b) for note in one.notes]


def _print(blocks: Iterator[RenderableType]) -> None:
    out = console()
    for number, block in enumerate(blocks):
        out.print(*([""] if number else []), block, sep="\n")


def _models(a: Count, b: Count) -> Iterator[RenderableType]:
    sizes, (found, parts, why) = a.sizes, _of_models(a, b)
    yield (
        f"A is {a.model}, B is {b.model}: T = {sizes.T} new token(s) after N = {sizes.N}, "
        f"batch B = {sizes.B}, {sizes.dtype}; S = N + T"
    )
    totals = table("total", *COLUMNS)
    for name, of in TOTALS.items():
        totals.add_row(name, *_cells(Pair(of(a), of(b))))
    yield totals
    if found and found.sizes:
        sized = table("size", "A", "B")
        sized.add_column("")
        for letter, pair in found.sizes.items():
            meaning = re.split("[:;]", found.meanings[letter])[0]
            sized.add_row(letter, *map(_number, pair), meaning)
        yield sized
    yield _components("component", parts)
    if found:
        yield from (_terms(title, found.terms[figure]) for figure, title in TITLES.items())
    else:
        yield f"by what terms is not known: {why}"


def _runs(a: Recording, b: Recording) -> Iterator[RenderableType]:
    yield "\n".join([f"A is {a.path}, B is {b.path}", *_notes(a, b)])
    if apart := asked(a, b):
        options = table("asked for", "A", "B", justify="left")
        for name, pair in apart.items():
            options.add_row(name, *map(_said, pair))
        yield options
    for phase, did in phases(a, b).items():
        made = table(phase, *COLUMNS)
        for figure, pair in did.items():
            made.add_row(TITLES.get(figure, figure), *_cells(pair))
        yield made
    for phase, parts in components(a, b).items():
        yield _components(f"{phase}, by component", parts)
    peak = table("peak of memory", *COLUMNS)
    for name, pair in memory(a, b).items():
        peak.add_row(name, *_cells(pair))
    yield peak


def _components(title: str, parts: Parts) -> Table:
    heads = [(f"{name} of A", "of B", "B - A", "share") for name in TITLES.values()]
    made = table(title, *(column for columns in heads for column in columns))
    whole = {figure: _sum(part[figure] for part in parts.values()) for figure in TITLES}
    for name, part in (*parts.items(), ("total", whole)):
        cells = (_shared(part[figure], whole[figure]) for figure in TITLES)
        style = "bold" if part is whole else None
        made.add_row(name, *(cell for some in cells for cell in some), style=style)
    return made


def _terms(title: str, terms: list[Term]) -> Table:
    """The terms that changed much, and the others together."""
    made = table(f"{title} by component")
    made.add_column("term")
    for column in (*COLUMNS, "share"):
        made.add_column(column, justify="right")
    whole = _sum(term.values for term in terms)
    least = sum(abs(term.values.difference) for term in terms) / SMALL
    for term in (large := [t for t in terms if abs(t.values.difference) > least]):
        cells = _shared(term.values, whole)
        for i in (0, 1):
            cells[i] = cells[i] if term.forms[i] else NONE
        made.add_row(term.component, " -> ".join(dict.fromkeys(filter(None, term.forms))), *cells)
    rest = terms[len(large) :]
    if rest:
        values = _sum(term.values for term in rest)
        made.add_row("others", f"{len(rest)} terms", *_shared(values, whole))
    made.add_row("total", "", *_shared(whole, whole), style="bold")
    return made


def _sum(pairs: Iterable[Pair]) -> Pair:
    return Pair(*map(sum, zip(*pairs, strict=True)))


def _shared(pair: Pair, whole: Pair) -> list[str]:
    """A figure of both, its difference, and what share of the whole difference that is."""
    share = f"{pair.difference / whole.difference:z.1%}" if whole.difference else ""
    return [*_cells(pair), share]


def _cells(pair: Pair) -> list[str]:
    both = None not in pair
    return [*map(_number, pair), _number(pair.difference, "+") if both else NONE]


def _number(n: Any, sign: str = "") -> str:
    if n is None:
        return NONE
    return format(n, f"{sign}," if isinstance(n, int) else f"{sign}.4g")


def _said(value: Any) -> str:
    """A value of a recording, whatever it has in it, on one short line."""
    text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
    return NONE if value is None else text if len(text) <= MOST else f"{text[: MOST - 1]}…"

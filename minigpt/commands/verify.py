"""The `verify` command: what was found as tables for a terminal, and as JSON."""

import json
import os
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counting.table import table
from counting.views import flops
from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError, without_effect
from minigpt.formulas.claims import GPU, UNITS, Claim
from minigpt.formulas.figures import named
from minigpt.formulas.notation import si
from minigpt.formulas.other_counters import INSTALL, Reported
from minigpt.formulas.published import SOURCES, Published
from minigpt.formulas.published_decoders import SOURCES_OF_DECODERS
from minigpt.formulas.published_wire import SOURCES_OF_THE_WIRE, UNITS_OF_THE_WIRE
from minigpt.formulas.verify import Verification, Witness, verify
from minigpt.schema import SCHEMA

EVERY_SOURCE = SOURCES_OF_DECODERS | SOURCES | SOURCES_OF_THE_WIRE
TERMS = (
    "each is held in the terms of its source. matmul: 2mnp alone; all: every operation once, a "
    "multiply-add as two. token: decoded at n keys; mean: of a sequence of n, on average. full: "
    "every query against all keys; causal: against those it may see. training: 3 forward passes, "
    "the backward pass as two; recomputed: the blocks run forward once more\n"
    f"seconds and tokens on an {GPU.name}"
)


def run(
    model: str,
    prompt: int | None = None,
    past: int | None = None,
    seed: int | None = None,
    peers: bool = False,
    as_json: bool = False,
) -> int:
    """Verifies a model and prints what was found; gives the exit status, 1 if a witness differs.

    Args:
        model: see `figures.named`; or a Python file, see `beside`, with `peers` alone.
        prompt, past, seed, peers: see `verify`.
        as_json: the last line is a JSON document.

    Raises:
        InputError: there is no such model, or an option cannot be used.
    """
    if model.endswith(".py"):
        if not os.path.isfile(model):
            raise InputError(f"there is no file {model}")
        if not peers:
            raise InputError(f"{model} is a program: --peers tells who else counts what it does")
        without_effect({"--prompt": prompt, "--past": past, "--seed": seed}, "a program")
        return _program(model, as_json)
    config = named(model)
    with doing("running the witnesses"):
        found = verify(config, model, prompt=prompt, past=past, seed=seed, peers=peers)
    console(prose=True).print(tables(found))
    if as_json:
        print(json.dumps(document(found)))
    return 0 if found.agrees else 1


def _program(path: str, as_json: bool) -> int:
    from counting.table import kinds
    from minigpt.formulas.beside import beside

    counts, peers = beside(path)
    ours = flops(counts)
    made = table("counter", "FLOP", "of ours", "why", justify="left")
    made.add_row("minigpt", f"{ours:,}", "1", "every operation once, a multiply-add as two")
    for peer in peers:
        why = [f"{n:+,} {what}" for what, n in peer.differences.items()] + peer.notes
        shown = "-" if peer.flop is None else f"{peer.flop:,}"
        made.add_row(peer.name, shown, _ratio(peer.ratio(ours)), Text("; ".join(why) or "the same"))
    console(prose=True).print(Group(Text(path), "", kinds(counts), "", made))
    if as_json:
        told = [peer._asdict() | {"ratio": peer.ratio(ours)} for peer in peers]
        found = {"program": path, "flop": ours, "kinds": counts.cost.by_kind(), "peers": told}
        print(json.dumps({"schema": SCHEMA} | found))
    return 0


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4g}"


def tables(found: Verification) -> Group:
    """The witnesses, the published formulas, and the peers if they were asked."""
    parts: list[RenderableType] = [witnesses(found.witnesses), "", published(found.claims)]
    if found.peers:
        parts += ["", _peers(found.peers)]
    return Group(Text(title(found)), "", *parts)


def title(found: Verification) -> str:
    """Of what the verdict is, and which."""
    verdict = "every witness agrees" if found.agrees else "A WITNESS DIFFERS"
    return f"{found.model}: {verdict}; configurations drawn with seed {found.seed}"


def witnesses(found: list[Witness]) -> Table:
    """Each claim, on how many cases it was tried, and what was found."""
    made = table("witnesses", "cases", "", justify="left")
    for witness in found:
        if witness.skipped:
            verdict = f"skipped: {witness.skipped}"
        elif witness.smallest is None:
            verdict = "agree"
        else:
            case, difference = witness.smallest
            verdict = f"DIFFER: {difference} on {case}"
        made.add_row(witness.claim, str(witness.cases or "-"), Text(verdict))
    return made


def published(claims: list[Claim], at_each: str = "n", terms: str = TERMS) -> Table:
    """What is published beside execution, at each n that it was held at, with its sources.

    Args:
        at_each: the name of n.
        terms: in which formulas are held, to be said below.
    """
    made = table("published, and how it differs", at_each, "published", "executed", "%")
    for column in made.columns[1:]:
        column.no_wrap = True
    made.leading = 1
    for row, held in groupby(claims, lambda claim: claim.published):
        at = list(held)
        if len({(claim.value, claim.executed) for claim in at}) == 1:
            del at[1:]  # the same whatever n is
        unit = (UNITS | UNITS_OF_THE_WIRE)[row.of]
        formula = row.formula.replace("**2", "²").replace("*", "·")
        head = f"{row.source}, {row.where}"
        made.add_row(
            "\n  ".join([head, f"({speaks(row)})", f"= {formula}", *at[0].reasons]),
            _lines(claim.n for claim in at),
            _lines(si(claim.value) + unit for claim in at),
            _lines(si(claim.executed) + unit for claim in at),
            _lines(_percent(claim.deviation) for claim in at),
        )
    named_in = {claim.published.source for claim in claims}
    of_all = {key: source for key, source in EVERY_SOURCE.items() if key in named_in}
    sources = "\n".join(f"{key}: {', '.join(map(str, s))}" for key, s in of_all.items())
    made.caption = f"{terms}\n{sources}"
    made.caption_justify = "left"
    return made


SCOPES = {
    "token": "a decoded token",
    "mean": "a mean token of a sequence",
    "sequence": "a whole sequence",
}


def speaks(row: Published) -> str:
    """In which terms a source speaks: what it prices, or view, scope, scores and mode."""
    if row.of != "flop":
        return row.of
    return f"{row.view}, {SCOPES[row.scope]}, {row.scores} scores, {row.mode}"


def _peers(peers: list[Reported]) -> Table:
    columns = "report", "made of our counts", "% of 2mnp", "why"
    made = table("other counters", *columns, justify="left")
    for peer in peers:
        reported = "not run" if peer.reported is None else f"{peer.reported:,}"
        made.add_row(peer.name, reported, f"{peer.predicted:,}", _percent(peer.deviation), peer.why)
    if missing := sorted({package for peer in peers for package in peer.missing}):
        made.caption = Text(f"not installed: {', '.join(missing)}; {INSTALL}")
        made.caption_justify = "left"
    return made


def _lines(cells: Iterable[Any]) -> str:
    return "\n".join(map(str, cells))


def _percent(deviation: float | None) -> str:
    return "-" if deviation is None else f"{deviation:+.2f}"


def document(found: Verification) -> dict[str, Any]:
    """Everything that was found; integers are exact."""
    return {
        "schema": SCHEMA,
        "model": found.model,
        "seed": found.seed,
        "agrees": found.agrees,
        "witnesses": [_witness(witness) for witness in found.witnesses],
        "published": [_claim(claim) for claim in found.claims],
        "peers": [peer._asdict() for peer in found.peers],
    }


def _witness(witness: Witness) -> dict[str, Any]:
    told: dict[str, Any] = {"claim": witness.claim, "cases": witness.cases}
    if witness.skipped:
        return told | {"agrees": None, "skipped": witness.skipped}
    if witness.smallest is None:
        return told | {"agrees": True}
    case, difference = witness.smallest
    smallest = case.numbers | {"logits": case.logits}
    return told | {"agrees": False, "smallest_case": smallest, "difference": difference}


def _claim(claim: Claim) -> dict[str, Any]:
    row = claim.published._asdict()
    del row["model"]  # the one that is verified
    return {
        "source": row["source"],
        "title": EVERY_SOURCE[row["source"]].title,
        **row,
        "n": claim.n,
        "value": claim.value,
        "executed": claim.executed,
        "executed_formula": claim.executed_form,
        "deviation_percent": claim.deviation,
        "reasons": claim.reasons,
    }

"""`verify --tensor-parallel P`: what P devices send each other, and what is published of it."""

import json
from typing import Any

import sympy
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from counting.table import table
from minigpt.commands.terminal import console, doing
from minigpt.commands.verify import document, published, title, witnesses
from minigpt.formulas.figures import named
from minigpt.formulas.notation import KINDS, plain
from minigpt.formulas.ring import SYMBOLS, r
from minigpt.formulas.symbols import sizes
from minigpt.formulas.verify_wire import WHAT, verify_wire
from minigpt.formulas.wire import Wire, wire
from minigpt.models.config import Config
from minigpt.planning.forward import Pass

TERMS = (
    "r is (P - 1)/P, of P devices. Of each number of a sum a device sends 2 r and adds r, of a "
    "gather it sends r: where P does not divide them, the mean of all devices. What each device "
    "has whole is not sent: norms, biases of a sum, routers, latents, positions, and keys and "
    "values where they have fewer heads than there are devices. sent: in a forward pass"
)


def run(
    model: str,
    size: int,
    prompt: int | None = None,
    past: int | None = None,
    seed: int | None = None,
    as_json: bool = False,
) -> int:
    """Verifies what devices send each other, prints it and gives the exit status, 1 if one differs.

    Args:
        model: see `figures.named`.
        size: devices that share each layer.
        prompt, past: new tokens, 1 if not given, after so many cached.
        seed: of the configurations drawn.
        as_json: the last line is a JSON document.

    Raises:
        InputError: there is no such model, it cannot be divided so, or an option cannot be used.
    """
    config, of = named(model), Pass(1 if prompt is None else prompt, past or 0)
    with doing("running the parts"):
        found = verify_wire(config, model, size, of, seed)
    parts: list[RenderableType] = [witnesses(found.witnesses)]
    told = document(found) | {"devices": size}
    if found.claims:  # else there is no closed form: a witness says why
        form, here = wire(config), _each(config, size, of)
        letters = table("", "", justify="left")
        for row in _legend(form).items():
            letters.add_row(*row)
        forms = letters, "", _forms(form), "", _here(here, model, size, of), ""
        parts = [*forms, *parts, "", published(found.claims, "P", TERMS)]
        sent = {WHAT[role]: str(work.sent) for role, work in form.by_role.items()}
        told |= {"symbols": _legend(form), "sent": sent, "bytes_sent": here}
    console(prose=True).print(Group(Text(title(found)), "", *parts))
    if as_json:
        print(json.dumps(told))
    return 0 if found.agrees else 1


def _legend(form: Wire) -> dict[str, str]:
    known = {name: what for name, what in form.of.legend.items() if name in form.letters}
    for one, other in KINDS:
        if {one, other} <= known.keys():
            known["L"] = f"{one} + {other}"
    return known | SYMBOLS


def _forms(form: Wire) -> Table:
    made = table("numbers, in a forward pass", "together", "sent", "added", justify="left")
    for role, work in form.by_role.items():
        together = "gathered" if role == "head" else "summed"
        made.add_row(WHAT[role], together, plain(work.sent), plain(work.added) or "-")
    sent, added = (sum(amounts) for amounts in zip(*form.by_role.values(), strict=True))
    made.add_section()
    made.add_row("in all", "", _told(sent), _told(added))
    return made


def _told(expr: Any) -> str:
    """A sum in r, r before it."""
    return f"r {plain(sympy.expand(expr / r))}"


def _each(config: Config, size: int, of: Pass) -> dict[str, dict[str, Any]]:
    """Bytes that a device sends, the least of all devices, their mean and the most."""
    form, at = wire(config, of.logits), {"B": of.B, "T": of.T, **sizes(config)}
    devices = [form.device(rank, size, at) for rank in range(size)]
    told = {}
    for operation in devices[0]:
        sent = [of.itemsize * device[operation].sent for device in devices]
        told[operation] = {"least": min(sent), "mean": sum(sent) / size, "most": max(sent)}
    return told


def _here(each: dict[str, dict[str, Any]], model: str, size: int, of: Pass) -> Table:
    what = f"bytes sent by each of {size}, {of.T} tokens after {of.N}, {of.dtype}"
    made = table(what, "least", "mean", "most")
    for operation, sent in each.items():
        made.add_row(operation, *(f"{n:,.10g}" for n in sent.values()))
    return made

"""FLOP and bytes by component: an icicle from the run to its phases, parts and operations."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from counting import Counts
from counting.table import si
from counting.views import flops
from minigpt.models.paths import layer_number
from minigpt.recording.read import Recording
from minigpt.views.charts import APART, Spec, chart, chosen, layer, linear, tips
from minigpt.views.html import table
from minigpt.views.panel import Panel

WORDS = {"FLOP": "FLOP", "B": "Bytes read and written"}
AMOUNTS: dict[str, Callable[[Counts], int]] = {
    "FLOP": flops,
    "B": lambda counts: sum(counts.bytes_read.values()) + sum(counts.bytes_written.values()),
}
HEIGHT = 460
MODEL = 2  # the column of the parts of blocks, after phases and blocks
COLOURS = 4


@dataclass
class Node:
    """A part of the run: what it took, and the parts of it by name.

    Attributes:
        calls: of operations, those of a leaf.
    """

    amount: int = 0
    calls: int = 0
    parts: "dict[str, Node]" = field(default_factory=dict)

    def part(self, name: str) -> "Node":
        return self.parts.setdefault(name, Node())


def components(recording: Recording) -> Panel:
    """Where operations and bytes go: by phase, block, component and operation."""
    if not recording.rows:
        html = (
            "<p>What each part did stands at the end of a recording, and this one has no end.</p>"
        )
        return Panel("components", "Components", html)
    layers = {n for row in recording.rows if (n := layer_number(row["path"])) is not None}
    phases = dict.fromkeys(row["phase"] for row in recording.rows)
    counts = {phase: recording.counts(phase) for phase in phases}
    trees = {unit: tree(counts, amount) for unit, amount in AMOUNTS.items()}
    html = (
        "<p>Read from left to right: the run, its phases, the blocks of the model and what is "
        f"outside of them, components, operations; the {len(layers)} blocks are drawn as one. The "
        "taller a part, the more of the whole it takes.</p>"
    )
    tables = "".join(
        table(f"{WORDS[unit]} as a table", ("part", unit, "share", "calls"), _rows(whole, unit))
        for unit, whole in trees.items()
    )
    colours = _coloured(trees["FLOP"])
    charts = tuple(_icicle(whole, unit, colours) for unit, whole in trees.items())
    return Panel("components", "Components", html, charts, tables)


def tree(of: Mapping[str, Counts], amount: Callable[[Counts], int]) -> Node:
    """What each phase took, down to operations; the layers of a model are one part."""
    whole = Node()
    for phase, counts in of.items():
        for (path, operation), row in counts.items():
            one = Counts(counts.columns, {(path, operation): row})
            if not (n := amount(one)):
                continue
            node = whole
            node.amount += n
            for name in (phase, *_names(path), operation):
                node = node.part(name)
                node.amount += n
            node.calls += one.total("calls")
    return whole


def _names(path: str) -> Iterator[str]:
    """The block, or `outside` of all of them, then the parts in it: `h`, `attn`, `qk`."""
    names = path.split(".") if path else []
    if layer_number(path) is None:
        yield "outside"
    else:
        first = next(i for i, name in enumerate(names) if name.isdigit())
        yield f"{names[first - 1]}.*"
        names = names[first + 1 :]
    yield from ("*" if name.isdigit() else name for name in names)


def _laid_out(whole: Node, colours: list[str]) -> Iterator[dict[str, Any]]:
    """A rectangle for each part below the run: its column, and where it begins and ends.

    Args:
        colours: parts of the model that have a colour, which what is inside of them has too.
    """

    def below(node: Node, column: int, start: int, path: str, colour: str) -> Iterator[Any]:
        for name, part in _largest_first(node):
            shade = name if column == MODEL and name in colours else colour
            yield {
                "column": column,
                "start": start / whole.amount,
                "end": (start + part.amount) / whole.amount,
                "name": name,
                "path": (where := f"{path} {name}".strip()),
                "colour": shade,
                "operation": not part.parts,
                "amount": part.amount,
            }
            yield from below(part, column + 1, start, where, shade)
            start += part.amount

    return below(whole, 0, 0, "", "")


def _largest_first(node: Node) -> list[tuple[str, Node]]:
    return sorted(node.parts.items(), key=lambda item: -item[1].amount)


def _coloured(whole: Node) -> list[str]:
    """The names of the parts of blocks, and of those outside, that take the most."""
    amounts = Counter[str]()
    for phase in whole.parts.values():
        for block in phase.parts.values():
            for name, part in block.parts.items():
                amounts[name] += part.amount
    return [name for name, _ in amounts.most_common(COLOURS)]


def _icicle(whole: Node, unit: str, colours: list[str]) -> Spec:
    values = [*_laid_out(whole, colours)]
    columns = 1 + max(one["column"] for one in values)
    for one in values:
        one["right"] = columns if one["operation"] else one["column"] + 1
        one["middle"] = (one["start"] + one["end"]) / 2
        one["said"] = f"{one['amount']:,} {unit}, {one['amount'] / whole.amount:.2%}"
    amount = f"{si(whole.amount, '.4g')}{unit}"
    x = {**linear("", 0, columns), "field": "column", "axis": None}
    y = linear(f"share of {amount}", 1, 0, format="%", tickCount=5, grid=False)
    fills = dict(
        zip(["", *colours], (f"var(--part-{n})" for n in range(1 + COLOURS)), strict=False)
    )
    rectangle = {
        "x": x,
        "x2": {"field": "right"},
        "y": {**y, "field": "start"},
        "y2": {"field": "end"},
        "fill": chosen("colour", fills),
        **tips(part="path", takes="said"),
    }
    tall = [one for one in values if (one["end"] - one["start"]) * HEIGHT >= APART]
    name = {"x": x, "y": {**y, "field": "middle"}, "text": {"field": "name"}}
    room = {"expr": f"width / {columns} - 9"}
    layers = [
        layer("rect", rectangle, stroke="var(--paper)", strokeWidth=1),
        layer("text", name, tall, align="left", dx=5, limit=room, fontSize=11.5),
    ]
    about = f"{WORDS[unit]} from the phases of the run to operations, as an icicle"
    return chart(f"{WORDS[unit]}: {amount}", about, HEIGHT, values, layers)


def _rows(whole: Node, unit: str) -> Iterator[tuple[Any, ...]]:
    def below(node: Node, depth: int, name: str) -> Iterator[tuple[Any, ...]]:
        share = f"{node.amount / whole.amount:.2%}"
        yield "\u2003" * depth + name, node.amount, share, node.calls or ""
        for name, part in _largest_first(node):
            yield from below(part, depth + 1, name)

    return below(whole, 0, "the run")

"""The parts that the page is put together from; whatever goes into one is escaped."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from counting.counts import grouped
from counting.table import si


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("minigpt.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"grouped": grouped, "si": si}
    return made


def render(template: str, **values: Any) -> Markup:
    """A template of `minigpt/views/templates`, filled in."""
    return Markup(_environment().get_template(template).render(values))


def table(summary: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table that opens on its summary; its first column names the rows.

    Args:
        rows: cells; integers have their thousands apart.
    """
    return render("table.html", summary=summary, columns=columns, rows=rows)

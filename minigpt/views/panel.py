"""A panel of the page."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Panel:
    """What stands under one heading of the page.

    Attributes:
        name: its id in the page, in lower case with hyphens.
        title: its heading.
        html: text before the charts; may be "".
        charts: Vega-Lite specifications, as wide as their container. The `title` of one, a string,
            is set as a line of the page over it, which folds where the page is narrow.
        tables: what stands after the charts: the same in numbers; may be "".
    """

    name: str
    title: str
    html: str
    charts: tuple[dict[str, Any], ...] = ()
    tables: str = ""

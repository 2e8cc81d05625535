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
        charts: Vega-Lite specifications, as wide as their container.
    """

    name: str
    title: str
    html: str
    charts: tuple[dict[str, Any], ...] = ()

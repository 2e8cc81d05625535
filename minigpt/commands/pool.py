"""What CuPy's pool and the driver say of memory, as tables for a terminal."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from counting.table import table

if TYPE_CHECKING:  # it imports CuPy
    from counting.cupy_memory import Hidden, Moment


def report(
    device: str,
    moment: "Moment",
    hidden: "Mapping[tuple[str, str], Hidden]",
    component: Callable[[str], str],
) -> Group:
    """Memory of the device by four witnesses, and what operations took in secret.

    Args:
        device: its name.
        moment: what the witnesses said.
        hidden: of each path and operation, see `Pool.hidden`.
        component: path -> the component it belongs to.
    """
    parts: list[Table | str] = [
        f"[bold]{escape(device)}[/]",
        memory(moment),
        "outside the ledger: CUDA context, kernels, cuBLAS workspace, other programs",
    ]
    if hidden:
        parts += ["", temporaries(hidden, component)]
    return Group(*parts)


def memory(moment: "Moment") -> Table:
    made = table("on the device", "asked", "rounded to 512", "pool", "driver")
    for name, sizes in moment.categories.items():
        made.add_row(name, *(f"{n:,}" for n in sizes))
    asked, rounded = (sum(sizes) for sizes in zip(*moment.categories.values(), strict=True))
    made.add_section()
    sums = asked, rounded, moment.pool, moment.driver
    made.add_row("total", *(f"{n:,}" for n in sums), style="bold")
    made.add_row("free in the pool", "", "", f"{moment.pool - moment.used:,}")
    made.add_row("outside the ledger", "", "", "", f"{moment.outside:,}")
    return made


def temporaries(
    hidden: "Mapping[tuple[str, str], Hidden]", component: Callable[[str], str]
) -> Table:
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (path, operation), (times, most) in hidden.items():
        key = component(path), operation
        before = found.get(key, (0, 0))
        found[key] = before[0] + times, max(before[1], most)
    made = table("taken and given back", "operation", "blocks", "bytes at most")
    for (name, operation), (times, most) in found.items():
        made.add_row(name, operation, f"{times:,}", f"{most:,}")
    return made

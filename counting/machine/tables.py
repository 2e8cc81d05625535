"""What ran as tables for a terminal."""

from typing import Any

from counting.machine.ran import FLOATING, TWICE, Ran
from counting.table import table

MOST = 10  # instructions shown


def text(ran: Ran) -> str:
    """What `print` shows: operations by library and kind, bytes by array, what ran most."""
    from rich.console import Console, Group

    parts: list[Any] = [f"{ran.instructions:,} instructions", "", operations(ran)]
    if len(ran.moved) > 1:
        parts += ["", moved(ran)]
    parts += ["", most(ran)]
    parts += ["", *notes] if (notes := said(ran)) else []
    console = Console(width=120, highlight=False)
    with console.capture() as shown:
        console.print(Group(*parts), markup=False)
    return "\n".join(line.rstrip() for line in shown.get().splitlines())


def operations(ran: Ran) -> Any:
    """Rows by library, kind and width: lanes computed, lanes off, floating-point operations."""
    made = table("library", "instructions", "operation", "bits", "lanes", "masked off", "FLOP")
    for library, n in ran.libraries.items():
        lanes, masked = ran.lanes(library), ran.masked(library)
        first: tuple[str, str] = library, f"{n:,}"
        for kind, bits in sorted(lanes | masked, key=lambda key: -(lanes | masked)[key]):
            did = lanes[kind, bits]
            flop = f"{did * (1 + (kind in TWICE)):,}" if kind in FLOATING else ""
            off = f"{masked[kind, bits]:,}" if masked[kind, bits] else ""
            made.add_row(*first, kind, str(bits), f"{did:,}", off, flop)
            first = "", ""
        if first[0]:
            made.add_row(*first)
    made.add_section()
    made.add_row("total", f"{ran.instructions:,}", "", "", "", "", f"{ran.flops():,}", style="bold")
    return made


def moved(ran: Ran) -> Any:
    """Bytes by array."""
    made = table("memory", "bytes loaded", "bytes stored")
    for name, n in ran.moved.items():
        made.add_row(name, f"{n.read:,}", f"{n.written:,}")
    return made


def most(ran: Ran) -> Any:
    """The instructions that ran most, of those that compute."""
    made = table("most executed", "times", "in")
    computing = [line for line in ran.lines if line.kind]
    for line in (computing or list(ran.lines))[:MOST]:
        made.add_row(line.text, f"{line.times:,}", line.library)
    return made


def said(ran: Ran) -> list[str]:
    """What the numbers leave out, a line each."""
    lines = []
    if ran.unknown:
        lines.append(f"not counted: {ran.unknown:,} instructions that could not be decoded")
    for name, spent in ran.threads.items():
        how_long = "ended meanwhile" if spent is None else f"ran {spent / 1e6:,.1f} ms meanwhile"
        lines.append(f"not counted: the thread {name}, which {how_long}")
    return lines

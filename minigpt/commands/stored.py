"""The weights of a model as they are stored, beside what its configuration says of them."""

from dataclasses import asdict
from typing import Any

from minigpt.checkpoint.headers import Stored


def stored_document(found: Stored | str | None) -> dict[str, Any]:
    """How weights are stored, in `count --json` and `plan --json`: or why that is not known."""
    if not isinstance(found, Stored):
        return {"stored": {"unknown": found}} if found else {}
    return {"stored": {"bytes": found.nbytes, **asdict(found)}}


def stored_lines(found: Stored | str | None) -> list[str]:
    """How weights are stored, in the lines of `count` and `plan`."""
    if not isinstance(found, Stored):
        return [f"how it is stored is not known: {found}"] if found else []
    parts = [f"{n:,} in {dtype}" for dtype, n in found.by_dtype.items()]
    told = f"as stored: {found.numbers:,} numbers, {found.nbytes:,} bytes: {', '.join(parts)}"
    if found.method:
        told += f"; quantised ({found.method}), {found.scales:,} bytes are scales"
    wrong = f"its files contradict its config.json: {found.contradiction}"
    return [told, *([wrong] if found.contradiction else [])]

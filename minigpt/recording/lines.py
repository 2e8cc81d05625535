"""What the lines of a recording must have, by type; docs/recording.md says what it means."""

from collections.abc import Collection, Mapping
from typing import Any

from counting import Ledger
from counting.ledger import CATEGORIES
from minigpt.checks import NAME, OBJECT, SEED, SWITCH, Check, number, optional, several, whole

LONGEST = 1 << 26  # characters of a line: the prompts stand in one

_KINDS = [name for name in Ledger().columns if isinstance(name, str)]
_CATEGORIES = (*CATEGORIES, "wire")  # of one of several devices
_AMOUNT = whole(0, 10**40)


def _amounts(known: Collection[Any], needed: Collection[Any] = ()) -> Check:
    """Whole numbers by name, some of which must be there."""
    what = f"whole numbers by {'' if needed else 'some of '}{', '.join(needed or known)}"

    def check(value: Any) -> str | None:
        names = value.keys() if type(value) is dict else None
        fits = names is not None and {*needed} <= names <= {*known}
        return None if fits and not any(map(_AMOUNT, value.values())) else what

    return check


def _having(fields: Mapping[str, Check]) -> Check:
    """Objects with some fields at least."""

    def check(value: Any) -> str | None:
        for name, each in fields.items():
            if type(value) is not dict or name not in value or each(value[name]):
                return f"an object with {', '.join(fields)}"
        return None

    return check


def _among(*names: str) -> Check:
    return lambda value: None if value in names else f"one of {', '.join(names)}"


_WHOLE, _SECONDS = whole(0, 2**63), number(0)
_NUMBERS = several(_WHOLE, "a list of whole numbers")
_MEMORY = _amounts(_CATEGORIES, needed=CATEGORIES)
_PASS = {
    "kinds": _amounts(_KINDS),
    "bytes_read": _amounts(_CATEGORIES),
    "bytes_written": _amounts(_CATEGORIES),
}
_MACHINE = {"processor": NAME, "cores": _WHOLE, "python": NAME, "numpy": NAME}
_PROMPT = {"text": NAME, "tokens": _NUMBERS, "pieces": several(NAME, "a list of texts")}
FIELDS: dict[str, dict[str, Check]] = {
    "run": {
        **dict.fromkeys(("model", "minigpt", "dtype", "device"), NAME),
        **dict.fromkeys(("parameters", "context"), _WHOLE),
        "config": OBJECT,
        "machine": _having(_MACHINE),
        "prompts": several(_having(_PROMPT), f"a list of objects with {', '.join(_PROMPT)}"),
        "seed": optional(SEED),
        "ops": SWITCH,
        "live_bytes": _MEMORY,
    },
    "token": {
        **dict.fromkeys(("pass", "token", "position", "sequence", "keys"), _WHOLE),
        **dict.fromkeys(("batch", "new_tokens"), whole(1, 2**63)),
        **dict.fromkeys(("flops", "matmul_flops"), _AMOUNT),
        "text": NAME,
        "phase": _among("prefill", "decode"),
        "at": _SECONDS,
        "seconds": _SECONDS,
        "live_bytes": _MEMORY,
        "peak_bytes": _MEMORY,
        **_PASS,
    },
    "operation": {
        **dict.fromkeys(("number", "bytes"), _WHOLE),
        "pass": optional(_WHOLE),
        **dict.fromkeys(("path", "operation", "dtype"), NAME),
        "category": _among(*_CATEGORIES),
        "shape": _NUMBERS,
        "freed": _NUMBERS,
        "flops": _AMOUNT,
        "start": _SECONDS,
        "seconds": _SECONDS,
        **_PASS,
    },
    "row": {
        "phase": _among("cache", "prefill", "decode"),
        **dict.fromkeys(("path", "operation"), NAME),
        **dict.fromkeys(("calls", "dots"), _AMOUNT),
        **_PASS,
    },
    "end": {
        "tokens": _WHOLE,
        "seconds": _SECONDS,
        "live_bytes": _MEMORY,
        "peak_bytes": _MEMORY,
    },
}

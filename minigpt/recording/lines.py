"""What the lines of a recording must have, by type; docs/recording.md says what it means."""

from collections.abc import Collection, Mapping
from typing import Any

from counting import Ledger
from counting.ledger import CATEGORIES
from minigpt.checks import NAME, OBJECT, SEED, SWITCH, Check, number, optional, several, whole
from minigpt.planning.accelerators import BITS

LONGEST = 1 << 26  # characters of a line: the prompts stand in one

_KINDS = [name for name in Ledger().columns if isinstance(name, str)]
_CATEGORIES = (*CATEGORIES, "wire")  # of one of several devices
_AMOUNT = whole(0, 10**40)


def _amounts(known: Collection[Any], needed: Collection[Any] = ()) -> Check:
    """Whole numbers by name, some of which must be there: then there are weights too."""
    what = f"whole numbers by {'' if needed else 'some of '}{', '.join(needed or known)}"
    what += ", weights not 0" * bool(needed)

    def check(value: Any) -> str | None:
        names = value.keys() if type(value) is dict else None
        fits = names is not None and {*needed} <= names <= {*known}
        fits = fits and not any(map(_AMOUNT, value.values()))
        return None if fits and (not needed or value["weights"]) else what

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


def _text(value: Any) -> str | None:
    """Texts of the first line without halves of characters; those of others have none."""
    fits = type(value) is str and value.encode(errors="replace").decode() == value
    return None if fits else "a text"


def _path(value: Any) -> str | None:
    """Whatever scopes can make: texts that fit in a line of a table."""
    fits = type(value) is str and value.isprintable()
    return None if fits else "names with dots between them, printable"


def _prompts(value: Any) -> str | None:
    """Prompts of a batch: one or more, of equally many tokens, each with its text."""
    what = f"a list of objects with {', '.join(_PROMPT)}, one or more and of equal lengths"
    if must := several(_having(_PROMPT), what)(value):
        return must
    lengths = {len(one[name]) for one in value for name in ("tokens", "pieces")}
    return None if len(lengths) == 1 and 0 not in lengths else what


_WHOLE, _SECONDS = whole(0, 2**63), number(0)
NUMBERS = several(_WHOLE, "a list of whole numbers")
_MEMORY = _amounts(_CATEGORIES, needed=CATEGORIES)
_PASS = {
    "kinds": _amounts(_KINDS),
    "bytes_read": _amounts(_CATEGORIES),
    "bytes_written": _amounts(_CATEGORIES),
}
_MACHINE = {"processor": _text, "cores": _WHOLE, "python": _text, "numpy": _text}
_PROMPT = {"text": _text, "tokens": NUMBERS, "pieces": several(_text, "a list of texts")}
FIELDS: dict[str, dict[str, Check]] = {
    "run": {
        "model": NAME,  # a file's may have bytes that are no text
        **dict.fromkeys(("minigpt", "device"), _text),
        "dtype": _among(*BITS),
        **dict.fromkeys(("parameters", "context"), _WHOLE),
        "config": OBJECT,
        "machine": _having(_MACHINE),
        "prompts": _prompts,
        "seed": optional(SEED),
        "ops": SWITCH,
        "live_bytes": _MEMORY,
    },
    "token": {
        **dict.fromkeys(("pass", "token", "position", "sequence", "keys"), _WHOLE),
        **dict.fromkeys(("batch", "new_tokens"), whole(1, 2**63)),
        **dict.fromkeys(("matmul_flops", "kv_bytes_per_token"), _AMOUNT),
        "flops": whole(1, 10**40),
        "text": NAME,
        "phase": _among("prefill", "decode"),
        "at": _SECONDS,
        "seconds": number(1e-9),
        "live_bytes": _MEMORY,
        "peak_bytes": _MEMORY,
        **_PASS,
        "bytes_read": _amounts(_CATEGORIES, needed=["weights"]),
    },
    "operation": {
        **dict.fromkeys(("number", "bytes"), _WHOLE),
        "pass": optional(_WHOLE),
        "path": _path,
        **dict.fromkeys(("operation", "dtype"), NAME),
        "category": _among(*_CATEGORIES),
        "shape": NUMBERS,
        "freed": NUMBERS,
        "flops": _AMOUNT,
        "start": _SECONDS,
        "seconds": _SECONDS,
        **_PASS,
    },
    "row": {
        "phase": _among("cache", "prefill", "decode"),
        "path": _path,
        "operation": NAME,
        **dict.fromkeys(("calls", "dots", "flops"), _AMOUNT),
        **_PASS,
    },
    "end": {
        "tokens": _WHOLE,
        "seconds": _SECONDS,
        "live_bytes": _MEMORY,
        "peak_bytes": _MEMORY,
    },
}

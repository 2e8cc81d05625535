"""Mutators: from something that is right to something that may not be, by a random generator."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import Any

NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 255, 256, 2**15, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63),
    *(2**64, 10**30, 10**400, -(10**30), 0.0, -0.0, 0.5, 1e-320, 1e-9, 1e30, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "a", "x" * 70_000, "é", "\0", "\n", "\x1b[31m", "\u202e", "[red]", "[/x]", "%s"),
    *("{}", "..", "../../x", "~", "~nosuch", "/dev/zero", "-1", "1e999", "null", "🙂" * 40),
    *("nan", "\ud800", "(a+)+$", "<0xFF>", "{{ x }}", "{% for i in x %}", "default", "llama3"),
)
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
VALUES = (*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [None], {"": 0}, ["llama3"], DEEP)


def value(rng: Random, like: Any = None) -> Any:
    """Any JSON value; half the time one of the type of `like`, close to it."""
    if isinstance(like, bool) or rng.random() < 0.5:
        return deepcopy(rng.choice(VALUES))  # or what is done to it is done to the next one too
    if isinstance(like, int | float):
        return rng.choice((like + 1, like - 1, -like, like * 2, like * 10**6, like // 3, str(like)))
    if isinstance(like, str):
        return text(rng, like)
    return rng.choice(NUMBERS)


def text(rng: Random, of: str) -> str:
    """A text with something cut out, put in, or said twice."""
    at = rng.randint(0, len(of))
    end = rng.randint(at, min(len(of), at + 20))
    put = rng.choice(("", rng.choice(TEXTS), of[at:end] * 2, chr(rng.randrange(0x3000))))
    return of[:at] + put + of[end:]


def tree(rng: Random, of: Any, known: Sequence[str] = ()) -> Any:
    """A JSON value with some of its parts exchanged, taken out, or put in.

    Args:
        known: keys that may be put into objects.
    """
    made = json.loads(json.dumps(of))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        made = _once(rng, made, known)
    return made


def _once(rng: Random, of: Any, known: Sequence[str]) -> Any:
    if not isinstance(of, dict | list) or not of or rng.random() < 0.02:
        return value(rng, of)
    keys = list(of) if isinstance(of, dict) else list(range(len(of)))
    key = rng.choice(keys)
    what = rng.random()
    if isinstance(of[key], dict | list) and of[key] and rng.random() < 0.8:
        of[key] = _once(rng, of[key], known)
    elif what < 0.6:
        of[key] = value(rng, of[key])
    elif what < 0.7:
        del of[key]
    elif what < 0.8:
        other = rng.choice(keys)
        of[key] = of[other]
    elif isinstance(of, dict):
        of[rng.choice(known) if known else rng.choice(TEXTS)] = value(rng, of[key])
    else:
        of.insert(key, value(rng, of[key]))
    return of


def encoded(rng: Random, of: Any) -> bytes:
    """A JSON value as a file has it; sometimes with bytes that are not right."""
    made = json.dumps(of, ensure_ascii=rng.random() < 0.9).encode(errors="surrogatepass")
    if rng.random() < 0.03:
        made = made.replace(b'{"', b'{"' + made[2:12] + b', "', 1)  # a key twice, or nonsense
    return octets(rng, made) if rng.random() < 0.1 else made


def octets(rng: Random, of: bytes) -> bytes:
    """Bytes of which some are flipped, cut, doubled, zeroed or put in."""
    made = bytearray(of)
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randint(0, len(made))
        end = min(len(made), at + rng.choice((1, 2, 8, 100)))
        changes: tuple[Callable[[], bytes], ...] = (
            lambda at=at, end=end: rng.randbytes(end - at),
            lambda: b"",
            lambda at=at, end=end: bytes(made[at:end]) * 2,
            lambda at=at, end=end: bytes(end - at),
            lambda: rng.choice((b"\xff" * 8, b"\0", b'"', b"{", b"]", b"9" * 30, b"\xef\xbb\xbf")),
        )
        made[at:end] = rng.choice(changes)()
        if rng.random() < 0.1:
            del made[rng.randint(0, len(made)) :]
    return bytes(made)

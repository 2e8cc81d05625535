"""The tokens of a run as running text, each shaded by what it cost."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from counting.table import si
from minigpt.recording.read import Line, Recording
from minigpt.views.html import render, table
from minigpt.views.panel import Panel
from minigpt.views.roof import moved

MOST = 400  # tokens that are shown; of more, those in the middle are left out

Amount = Callable[[Line], float]


COSTS: dict[str, tuple[str, Amount]] = {  # by name: the unit, and the amount in a record of a pass
    "FLOP": ("FLOP", lambda record: record["flops"]),
    "bytes": ("B", moved),
    "seconds": ("s", lambda record: record["seconds"]),
}


@dataclass(frozen=True)
class Scale:
    """The shades of a cost: 0 for the least that a token took, 1 for the most, in logarithms.

    Attributes:
        name, unit: of the cost.
        least, most: of all tokens.
    """

    name: str
    unit: str
    least: float
    most: float

    def shade(self, amount: float) -> float:
        if not 0 < self.least < self.most:
            return 0.0
        return math.log(amount / self.least) / math.log(self.most / self.least)

    @property
    def ends(self) -> tuple[str, str]:
        """The least and the most, with their unit."""
        least, most = (f"{si(n, '.4g')}{self.unit}" for n in (self.least, self.most))
        return least, most


def tokens(recording: Recording) -> Panel:
    """The prompt and what came, and the record of each token when it is pointed at."""
    shares = [_share(one) for one in recording.passes]
    scales = [
        Scale(name, unit, min(amounts), max(amounts))
        for name, (unit, _) in COSTS.items()
        if (amounts := [share[name] for share in shares])
    ]
    sequences = [
        _sequence(recording, number, scales) for number in range(len(recording.header["prompts"]))
    ]
    batch = len(sequences)
    html = render(
        "tokens.html",
        scales=scales,
        sequences=[_fewer(sequence, MOST // batch) for sequence in sequences],
        batch=batch,
    )
    columns = ["position", "token", "sequence", "phase", "FLOP", "2mnp", "bytes read"]
    columns += ["bytes written", "cache B a token", "ms"]
    shown = [one for found in _fewer(recording.tokens, MOST) for one in found]
    rows = (
        (
            one["position"],
            repr(one["text"]),
            one["sequence"],
            one["phase"],
            one["flops"],
            one["matmul_flops"],
            sum(one["bytes_read"].values()),
            sum(one["bytes_written"].values()),
            one["kv_bytes_per_token"],
            f"{1000 * one['seconds']:.3f}",
        )
        for one in shown
    )
    left_out = len(recording.tokens) - len(shown)
    summary = "The records as a table" + (f", without {left_out:,} in the middle" * bool(left_out))
    return Panel("tokens", "Tokens", html, tables=table(summary, columns, rows))


def _share(record: Line) -> dict[str, float]:
    """What a pass cost for each token that it read, by the name of the cost."""
    each = record["batch"] * record["new_tokens"]
    return {name: amount(record) / each for name, (_, amount) in COSTS.items()}


def _sequence(recording: Recording, number: int, scales: list[Scale]) -> list[dict[str, Any]]:
    """The tokens of a sequence: text, phase, shades by cost, and the record in words."""
    prompt = recording.header["prompts"][number]
    came = [one for one in recording.tokens if one["sequence"] == number]
    pieces = zip(prompt["tokens"], prompt["pieces"], strict=True)
    prefill = {"given": True, "record": came[0] if came else None}
    given = [
        {"text": piece, "token": token, "position": position, **prefill}
        for position, (token, piece) in enumerate(pieces)
    ]
    made = [{**one, "given": False, "record": one} for one in came]
    return [
        {
            "text": one["text"].replace("\n", "\u21b5\n"),
            "token": one["token"],
            "given": one["given"],
            "shades": _shades(one["record"], scales),
            "about": _about(one),
        }
        for one in given + made
    ]


def _shades(record: Line | None, scales: list[Scale]) -> str:
    if record is None:
        return ""
    share = _share(record)
    return ";".join(f"--{scale.name}:{scale.shade(share[scale.name]):.3f}" for scale in scales)


def _about(one: dict[str, Any]) -> str:
    record = one["record"]
    lines = [f"{one['text']!r}, token {one['token']} at position {one['position']}"]
    if record is None:  # no pass has ended yet
        return lines[0]
    if record["phase"] == "prefill":
        part = "is read by" if one["given"] else "comes of"
        n = record["new_tokens"] * record["batch"]
        lines.append(f"it {part} the prefill, one pass over {n:,} tokens; what all of it took:")
    else:
        lines.append(f"decode, {record['keys']:,} keys")
    read, written = (sum(record[f"bytes_{way}"].values()) for way in ("read", "written"))
    lines += [
        f"{record['flops']:,} FLOP, {record['matmul_flops']:,} by 2mnp",
        f"{read:,} B read, {written:,} B written",
        f"{record['kv_bytes_per_token']:,} B of KV cache a token",
        f"{1000 * record['seconds']:.3f} ms",
    ]
    return "\n".join(lines)


def _fewer(of: list[Any], most: int) -> Iterator[list[Any]]:
    """All in one part if they are not more than `most`, else the first and the last of them."""
    if len(of) <= most:
        return iter([of])
    half = max(1, most // 2)
    return iter([of[:half], of[-half:]])

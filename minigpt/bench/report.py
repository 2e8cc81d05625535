"""From runs to rows: times per token, the floor that the memory sets, and ratios to the peers."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from counting import table as tables
from minigpt.bench.engines import ENGINES, PRECISIONS, Entry
from minigpt.models.config import Config
from minigpt.planning.forward import Pass, on_shapes


class Row(NamedTuple):
    """What was measured of an engine at one precision.

    Attributes:
        phase: "decode", "prefill" or "load"; "prefill-4" is one of 4 tokens, "decode-4" a step of
            4 sequences.
        times_ms: milliseconds per token, of each run.
        floor_ms: the least a token can take, weights and cache being read once a pass.
        peak_bytes: the most memory of a run.
        tokens: of a pass.
        ratio_to: how many times as long each peer of the same precision takes.
    """

    entry: Entry
    model: str
    phase: str
    times_ms: tuple[float, ...]
    floor_ms: float
    peak_bytes: int | None = None
    tokens: int = 1
    ratio_to: dict[str, float] = {}  # noqa: RUF012

    @property
    def ms(self) -> float:
        return statistics.median(self.times_ms)

    def record(self) -> dict[str, Any]:
        """The row as a JSON object."""
        return {
            "engine": self.entry.engine,
            "dtype": self.entry.dtype,
            "model": self.model,
            "phase": self.phase,
            "ms_per_token": self.ms,
            "tokens_per_second": 1000 / self.ms,
            "percent_of_floor": 100 * self.floor_ms / self.ms,
            "ratio_to": self.ratio_to,
            "peak_bytes": self.peak_bytes,
            "tokens": self.tokens,
        }


def floor_bytes(config: Config, dtype: str, new_tokens: int, past: int, batch: int = 1) -> float:
    """Bytes of weights and caches that a pass of `batch` sequences has to read.

    Each has `new_tokens` after `past`.
    They are those that a run on shapes is seen to read, each element at the size that the
    precision stores it in.
    """
    sizes = Pass(new_tokens, past, batch, logits="last", dtype="float32")
    read = on_shapes(config, sizes).counts.bytes_read
    stored = PRECISIONS[dtype]
    return (read["weights"] * stored.weight + read["kv_cache"] * stored.cache) / 4


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows with their ratios to each peer of the same precision in the same phase."""
    return [
        row._replace(
            ratio_to={
                peer.entry.engine: peer.ms / row.ms
                for peer in rows
                if ENGINES[peer.entry.engine].packages
                and peer.entry.engine != row.entry.engine
                and (peer.phase, peer.model) == (row.phase, row.model)
                and PRECISIONS[peer.entry.dtype].weight == PRECISIONS[row.entry.dtype].weight
            }
        )
        for row in rows
    ]


TOLERANCE = 1.05
"""What n rows may take of the time that fewer would suggest before it is called a cliff."""


def cliffs(times: dict[int, float]) -> dict[int, float]:
    """Numbers of rows that take longer than the same rows in several smaller passes, and by what.

    Args:
        times: of a pass, by its number of rows.
    """
    found = {}
    for rows, took in times.items():
        smaller = [-(-rows // fewer) * times[fewer] for fewer in times if fewer < rows]
        if smaller and took > TOLERANCE * min(smaller):
            found[rows] = took / min(smaller)
    return found


def table(rows: Sequence[Row]) -> Table:
    """The rows for a terminal, with the fastest and slowest run of each."""
    peers = list(dict.fromkeys(name for row in rows for name in row.ratio_to))
    names = "dtype", "phase", "ms/pass", "ms/token", "min-max", "tokens/s", "of floor"
    made = tables.table("engine", *names, *(f"x {peer}" for peer in peers), "peak GiB")
    for column in made.columns[1:3]:
        column.justify = "left"
    for row in rows:
        made.add_row(
            *row.entry,
            row.phase,
            f"{row.tokens * row.ms:.2f}",
            f"{row.ms:.2f}",
            f"{min(row.times_ms):.2f}-{max(row.times_ms):.2f}",
            f"{1000 / row.ms:.1f}",
            f"{100 * row.floor_ms / row.ms:.0f} %",
            *(f"{row.ratio_to[peer]:.2f}" if peer in row.ratio_to else "" for peer in peers),
            f"{row.peak_bytes / 2**30:.2f}" if row.peak_bytes else "",
        )
    return made


def markdown(document: Mapping[str, Any]) -> str:
    """A result's document as a table in Markdown, after the machine and the versions.

    Times are of a pass: a step of all sequences, a prompt, a start with its first token. The ratio
    is that of the fastest peer to the first engine, whose floor it is too.
    """
    versions = ", ".join(document["versions"].values()).split(", ")
    lines = [
        f"{document['processor']}, {document['cores']} cores, "
        f"memory {document['bandwidth_gb_s']:.1f} GB/s;",
        f"{', '.join(dict.fromkeys(filter(None, versions)))}.",
        "",
    ]
    engines = list(document["versions"])
    head = ["model", "pass", "dtype", *(f"{name}, ms" for name in engines)]
    head += ["x fastest peer", "floor, ms", *(f"{name}, GiB" for name in engines)]
    table: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in document["rows"]:
        table.setdefault((row["model"], _pass(row), row["dtype"]), {})[row["engine"]] = row
    cells = [head, ["---"] * len(head)]
    for key, by_engine in table.items():
        found = [by_engine.get(name) for name in engines]
        cells.append([*key, *map(_ms, found), *_beside(found[0]), *map(_peak, found)])
    lines += [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([*lines, *(f"\n{note}." for note in document["notes"])])


Found = dict[str, Any] | None  # a row, if the engine has that precision and ran


def _pass(row: dict[str, Any]) -> str:
    phase, tokens = row["phase"].partition("-")[0], row["tokens"]
    if phase == "load":
        return "start to first token"
    return phase if tokens == 1 else f"{phase} {tokens}"


def _ms(row: Found) -> str:
    return _number(row["ms_per_token"] * row["tokens"]) if row else ""


def _beside(row: Found) -> tuple[str, str]:
    """How many times as long the fastest peer takes, and the memory's floor."""
    if row is None:
        return "", ""
    floor = row["percent_of_floor"] / 100 * row["ms_per_token"] * row["tokens"]
    ratios = row["ratio_to"].values()
    return f"{min(ratios):.2f}" if ratios else "", _number(floor)


def _peak(row: Found) -> str:
    return f"{row['peak_bytes'] / 2**30:.2f}" if row and row["peak_bytes"] else ""


def _number(ms: float) -> str:
    return f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"

"""What `minigpt generate` tells at the end: tables on standard error, or a document."""

from dataclasses import dataclass
from typing import Any

from rich.console import Group

from counting import table
from counting.views import flops, matmul
from minigpt.commands.allocator import Cuda, Host
from minigpt.commands.terminal import console
from minigpt.commands.times import Times
from minigpt.inference.generate import Step, figures
from minigpt.inference.load import LanguageModel
from minigpt.models.paths import component
from minigpt.schema import SCHEMA


@dataclass
class Generated:
    """What was generated so far, which an interrupt leaves.

    Attributes:
        texts, tokens: of each sequence.
        last: step; None before the first.
        real: bytes that the allocator had live after it, by category, if it is asked.
    """

    texts: list[str]
    tokens: list[list[int]]
    times: Times
    last: Step | None = None
    real: dict[str, int] | None = None

    def add(self, step: Step) -> None:
        """Adds a step: its text, its token and its time."""
        self.last = step
        self.texts[step.sequence] += step.text
        self.tokens[step.sequence].append(step.token)
        self.times.add(step)


def tell(
    lm: LanguageModel,
    made: Generated,
    ranks: dict[str, list[Any]],
    seed: int | None,
    witnessed: Host | Cuda | None,
) -> None:
    """Prints what it cost on standard error, and the seed if one was drawn."""
    errors = console(stderr=True)
    errors.print()
    errors.print(_tables(lm, made))
    if ranks:
        errors.print(_of_all(**ranks))
    if seed is not None:
        errors.print(f"drawn with --seed {seed}")
    if witnessed:
        errors.print(witnessed.report())


def _tables(lm: LanguageModel, made: Generated) -> Group:
    last = made.last
    live = last.live_bytes if last else lm.ledger.live_bytes
    counts, sampling = lm.ledger.snapshot(), lm.sampling.snapshot()
    beside = {"sample": sampling}
    tables = table.report(counts, live, lm.ledger.peak_bytes, component, made.real, beside)
    note = f"{lm.config.parameters:,} parameters"
    if last:
        note += f" · {last.kv_bytes_per_token:,} bytes of KV cache a token"
    if sampling.total("exp"):  # else the most likely token was taken, without a sort
        note += "\nsample, beside the total, is without its sort: comparisons depend on data"
    return Group(tables, "", made.times.table(), "", note)


def _of_all(ranks: list[dict[str, Any]]) -> str:
    """What all devices did, under the tables of the first."""
    products = sum(rank["matmul_flops"] for rank in ranks)
    sent = sum(sum(rank["bytes_sent"].values()) for rank in ranks)
    return (
        f"that is rank 0; all {len(ranks)} did {products:,} FLOP of matrix products, "
        f"and sent {sent:,} bytes"
    )


def document(lm: LanguageModel, made: Generated) -> dict[str, Any]:
    """What `--json` prints of what was generated and what it cost, but for times and processes."""
    counts, last = lm.ledger.snapshot(), made.last
    return {
        "schema": SCHEMA,
        "model": lm.name,
        "texts": made.texts,
        "tokens": made.tokens,
        "parameters": lm.config.parameters,
        "kv_bytes_per_token": last.kv_bytes_per_token if last else None,
        "flops": flops(counts),
        "matmul_flops": matmul(counts),
        "kinds": counts.cost.by_kind(),
        "flops_by_component": {k: flops(part) for k, part in counts.by(component).items()},
        "bytes_read": counts.bytes_read,
        "bytes_written": counts.bytes_written,
        "sample": figures(lm.sampling.snapshot()),
        "live_bytes": last.live_bytes if last else lm.ledger.live_bytes,
        "peak_bytes": lm.ledger.peak_bytes,
    }

"""The time that a run takes, and tokens a second."""

from time import perf_counter
from typing import Any

from rich.table import Table

from counting.table import table
from minigpt.inference.generate import Step


class Times:
    """Where the time of a run goes: to loading, to the passes of each phase, and in all."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._seconds = {"loading": 0.0, "prefill": 0.0, "decode": 0.0}
        self._tokens = {"prefill": 0, "decode": 0}
        self._position = -1

    def loaded(self) -> None:
        """Notes that the model is there."""
        self._seconds["loading"] = perf_counter() - self._began

    def add(self, step: Step) -> None:
        """Adds a step: to prefill the tokens of the prompts, to decode those that came."""
        first = step.position != self._position  # the other sequences tell of the same pass
        self._position = step.position
        if first:
            self._seconds[step.phase] += step.seconds
        if step.phase == "decode":
            self._tokens["decode"] += 1
        elif first:
            self._tokens["prefill"] = step.batch * step.new_tokens

    def document(self) -> dict[str, Any]:
        """Seconds so far, and tokens a second of each phase, None where there was none."""
        total = perf_counter() - self._began
        spent = self._seconds
        rates = {k: n / spent[k] if spent[k] else None for k, n in self._tokens.items()}
        return {"seconds": {**self._seconds, "total": total}, "tokens_per_second": rates}

    def table(self) -> Table:
        """Seconds and tokens a second so far, for a terminal."""
        made = table("time", "tokens", "seconds", "tokens/s")
        told = self.document()
        for name, seconds in told["seconds"].items():
            tokens, rate = self._tokens.get(name), told["tokens_per_second"].get(name)
            made.add_row(
                "in all" if name == "total" else name,
                "" if tokens is None else f"{tokens:,}",
                f"{seconds:,.4f}",
                f"{rate:,.1f}" if rate else "",
            )
        return made

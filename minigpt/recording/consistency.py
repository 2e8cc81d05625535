"""What the lines of a recording must be beside each other, so that a reader may trust them."""

from collections.abc import Iterator
from typing import Any

from minigpt.checks import shown
from minigpt.recording.lines import NUMBERS

Line = dict[str, Any]

ORDER = (("run",), ("operation", "token"), ("row",), ("end",), ())
"""Types of lines, in the order of a recording; nothing comes after the end."""


class Consistency:
    """What is known of a recording after some of its lines, to which the next one is held.

    Args:
        header: its first line.
    """

    def __init__(self, header: Line) -> None:
        self._header = header
        self._begun = 0  # the place in `ORDER`
        self._passes, self._sequence, self._tokens = 0, -1, 0
        self._number, self._cached = 0, True
        self._alive = set[int]()  # operations whose arrays are

    def problem(self, line: Line) -> str | None:
        """What is wrong with the next line, which is right by itself; None if nothing is."""
        return next(self._problems(line), None)

    def _problems(self, line: Line) -> Iterator[str]:
        kind = line["type"]
        if not any(kind in kinds for kinds in ORDER[self._begun :]):
            yield f"{kind!r} comes too late, after {' or '.join(ORDER[self._begun] or ('end',))!r}"
        self._begun = next(i for i, kinds in enumerate(ORDER) if kind in kinds) + (kind == "end")
        yield from self._of_categories(line)
        yield from self._of_freed(line)
        if kind == "operation":
            yield from self._of_operation(line)
        elif kind == "token":
            yield from self._of_token(line)
        elif kind == "end" and line["tokens"] != self._tokens:
            yield f"tokens is {line['tokens']}, but there are {self._tokens} above"

    def _of_categories(self, line: Line) -> Iterator[str]:
        known = self._header["live_bytes"].keys()
        for name in ("live_bytes", "peak_bytes"):
            if name in line and line[name].keys() != known:
                yield f"{name} has {', '.join(line[name])}, but the first line {', '.join(known)}"
        used = {line.get("category", "weights"), *line.get("bytes_read", ())}
        for name in sorted({*used, *line.get("bytes_written", ())} - known):
            yield f"the first line has no category {name}"

    def _of_freed(self, line: Line) -> Iterator[str]:
        freed = line.get("freed", [])  # of a token only if operations were recorded
        if must := NUMBERS(freed):
            yield f"freed is {shown(freed)}; it must be {must}"
        for number in freed:
            if number not in self._alive:
                yield f"freed has {number}, but no array of that operation is alive"
            self._alive.discard(number)

    def _of_operation(self, line: Line) -> Iterator[str]:
        self._number += 1
        if line["number"] != self._number:
            yield f"number is {line['number']}, but the operation is the {self._number}th"
        self._cached &= line["pass"] is None
        if line["pass"] != (None if self._cached else self._passes):
            yield f"pass is {line['pass']}, but {self._passes} passes have ended above"
        if line["bytes"]:
            self._alive.add(self._number)

    def _of_token(self, line: Line) -> Iterator[str]:
        if line["pass"] == self._passes:  # else it is another sequence's, of the last pass
            self._passes, self._sequence = self._passes + 1, -1
        if line["pass"] != self._passes - 1:
            yield f"pass is {line['pass']}, but {self._passes} passes have ended above"
        prompts = self._header["prompts"]
        if not self._sequence < line["sequence"] < len(prompts):
            yield f"sequence is {line['sequence']}, of {len(prompts)}, after {self._sequence}"
        position = len(prompts[0]["tokens"]) + line["pass"]
        if line["position"] != position:
            yield f"position is {line['position']}, but that of pass {line['pass']} is {position}"
        if position > self._header["context"]:
            yield f"position is {position}, beyond the context of {self._header['context']}"
        if line["keys"] > position or line["new_tokens"] > position:
            yield f"keys is {line['keys']}, new_tokens {line['new_tokens']}, of {position} tokens"
        if (line["phase"] == "prefill") != (line["pass"] == 0):
            yield f"phase is {line['phase']} of pass {line['pass']}"
        if line["batch"] != len(prompts):
            yield f"batch is {line['batch']}, but there are {len(prompts)} prompts"
        self._sequence, self._tokens = line["sequence"], self._tokens + 1

"""The reading of a recording, of one too that was cut off or is still being written."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from counting import Counts, Ledger
from minigpt.checks import a, checked
from minigpt.errors import InputError
from minigpt.models.architectures import configuration
from minigpt.models.config import Config
from minigpt.recording import VERSION
from minigpt.recording.consistency import Consistency
from minigpt.recording.lines import FIELDS, LONGEST
from minigpt.storage.files import reason
from minigpt.storage.reading import parsed, regular

Line = dict[str, Any]


@dataclass(frozen=True)
class Recording:
    """What a run did; docs/recording.md says what the fields of its lines are.

    Attributes:
        path: of its file.
        header: its first line: model, machine, prompts, options.
        events: a line for each token, with the record of its pass, and for each operation, if they
            were recorded, in the order in which they were.
        rows: what each phase did, by path and operation; none of a run that did not end.
        end: the last line; None of a run that did not end, or has not yet.
        notes: what a reader of it should know, a line each.
    """

    path: Path
    header: Line
    events: list[Line]
    rows: list[Line]
    end: Line | None
    notes: tuple[str, ...]

    @cached_property
    def tokens(self) -> list[Line]:
        """Those of the events that are tokens."""
        return [line for line in self.events if line["type"] == "token"]

    @cached_property
    def operations(self) -> list[Line]:
        """Those of the events that are operations."""
        return [line for line in self.events if line["type"] == "operation"]

    def counts(self, phase: str | None = None) -> Counts:
        """What the run did, or a phase of it, by path and operation; see `rows`.

        Args:
            phase: "cache", which is its making, "prefill" or "decode".
        """
        rows: dict[tuple[str, str], list[int]] = {}
        columns = Ledger(self.header["live_bytes"]).columns
        for line in self.rows:
            if phase in (None, line["phase"]):
                row = rows.setdefault((line["path"], line["operation"]), [0] * len(columns))
                for column, n in _amounts(line).items():
                    row[columns[column]] += n
        return Counts(columns, {key: tuple(row) for key, row in rows.items()})

    @property
    def config(self) -> Config:
        """The configuration of the model that ran.

        Raises:
            InputError: it is of an architecture that is not known here, or has fewer positions than
                were reserved.
        """
        config, context = configuration(self.header["config"], self.path), self.header["context"]
        if context > config.n_positions:
            raise InputError(
                f"{self.path}: context is {context}; the model has {config.n_positions} positions"
            )
        return config

    @property
    def passes(self) -> list[Line]:
        """A token of each pass: the others of a batch tell of the same one."""
        first: dict[int, Line] = {}
        for token in self.tokens:
            first.setdefault(token["pass"], token)
        return [*first.values()]


def read(path: Path) -> Recording:
    """The recording in a file.

    Raises:
        InputError: it cannot be read, is no recording, or is of a version that is not known.
    """
    checked("path", path, a("a Path", Path))
    notes: list[str] = []
    header: Line = {}
    lines: list[Line] = []
    try:
        with regular(path, longest=None) as stream:
            file = TextIOWrapper(stream, encoding="utf-8-sig", errors="replace")
            for number, line in enumerate(_lines(file, path, notes), start=1):
                kind = str(line.get("type"))
                if (number == 1) != (kind == "run"):
                    raise InputError(f"{path} is no recording: {_no_recording(number)}")
                if number == 1 and line.get("recording") != VERSION:
                    raise InputError(
                        f"{path} is a recording of version {line.get('recording')!r}; this "
                        f"program reads version {VERSION}: record the run again"
                    )
                if kind not in FIELDS:  # of what later versions add nothing is known here
                    continue
                _check(line, kind, f"{path}, line {number}")
                if number == 1:
                    header, before = line, Consistency(line)
                elif problem := before.problem(line):
                    raise InputError(f"{path}, line {number}: {problem}")
                else:
                    lines.append(line)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {reason(error)}") from None
    if not header:
        raise InputError(f"{path} is no recording: {_no_recording(1)}")
    end = lines.pop() if lines and lines[-1]["type"] == "end" else None
    if not end:
        notes.append("the run did not end, or has not yet: what each phase did is not known")
    return Recording(
        path,
        header,
        events=[line for line in lines if line["type"] != "row"],
        rows=[line for line in lines if line["type"] == "row"] if end else [],
        end=end,
        notes=tuple(notes),
    )


def _check(line: Line, kind: str, place: str) -> None:
    """Raises InputError unless a line has what lines of its type have."""
    for name, check in FIELDS[kind].items():
        if name not in line:
            raise InputError(f"{place}: a {kind} without {name!r}")
        checked(f"{place}: {name}", line[name], check)


def _amounts(line: Line) -> Line:
    """The figures of a row by the columns of a ledger."""
    moved = {("read", name): n for name, n in line["bytes_read"].items()}
    moved |= {("written", name): n for name, n in line["bytes_written"].items()}
    return {"calls": line["calls"], "dots": line["dots"], **line["kinds"], **moved}


def _no_recording(number: int) -> str:
    if number == 1:
        return "minigpt generate --record FILE writes one"
    return f"a second run begins at line {number}"


def _lines(file: Any, path: Path, notes: list[str]) -> Iterator[Line]:
    """The lines, but for a last one that is cut, of which a note is made."""
    for number, text in enumerate(iter(lambda: file.readline(LONGEST), ""), start=1):
        if len(text) == LONGEST:
            raise InputError(f"{path}, line {number}, has more than {LONGEST:,} characters")
        try:
            line = parsed(text, halves=number == 1)  # the name of a model may be any file's
        except ValueError:
            line = None
        whole = isinstance(line, dict)
        if not whole and number > 1 and not text.endswith("\n"):
            notes.append(f"the last line, {number}, is cut: it is left out")
        elif not whole:
            raise InputError(f"{path}, line {number}, is no JSON object: {_no_recording(1)}")
        else:
            yield line

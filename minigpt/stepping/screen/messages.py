"""What a screen and the process that computes for it say to each other: plain values."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from minigpt.stepping.stepper import State


class Command(NamedTuple):
    """A line as at pdb's prompt, and the room that there is for what comes back.

    Attributes:
        line: "" asks for the same view again, and stops what runs.
        columns, lines: characters, of text that is said.
        cells: rows and columns of the picture of a tensor.
    """

    line: str
    columns: int
    lines: int
    cells: tuple[int, int]


class Loading(NamedTuple):
    """How far a model is loaded, in bytes."""

    done: int
    total: int


class Ready(NamedTuple):
    """The model is there; its paths in the order in which they run."""

    paths: list[str]


class Running(NamedTuple):
    """A sign of life, while it runs to where it will stop."""

    token: int
    number: int
    flops: int
    text: str


class Ended(NamedTuple):
    """It runs no more.

    Attributes:
        text: the whole, if it came to its end.
        error: why, if it did not.
        wrong: whether that is a fault of what was asked for.
        missed: whether it ended while it ran to something that it never met.
        view: of the end of the text.
    """

    text: str | None = None
    error: str = ""
    wrong: bool = False
    missed: bool = False
    view: "View | None" = None


@dataclass(frozen=True)
class Made:
    """What the operation before made: its facts, and its values as a picture (see `picture`)."""

    operation: str
    path: str
    flops: int
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    category: str
    least: float
    mean: float
    most: float
    nans: int
    infs: int
    looked: int  # elements that the statistics are about: every one, or every k-th
    cells: np.ndarray | None
    legend: str


@dataclass(frozen=True)
class View:
    """All that a screen shows where a model stands.

    Attributes:
        said: what the command before printed.
        made: by the operation before.
        lines: FLOP of this pass at each line of the file that it stands in.
        paths: FLOP so far, by path.
        components: FLOP, bytes read and bytes written so far, by part of the model.
        since, live: bytes of activations that were alive after each operation, from one on.
    """

    state: State
    most: int
    said: str
    made: Made | None
    lines: dict[int, int]
    paths: dict[str, int]
    components: dict[str, tuple[int, int, int]]
    since: int
    live: list[int]

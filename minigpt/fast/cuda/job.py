"""A job of the GPU: what its structure in the source holds, and which memory it touches."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minigpt.fast.cuda.source import HEAD, numbers, structures

WORDS = numbers()["WORDS"]


class Span(NamedTuple):
    """Bytes from one address up to another."""

    begin: int
    end: int

    def touches(self, other: "Span") -> bool:
        return self.begin < other.end and other.begin < self.end


@dataclass(eq=False)
class Job:
    """A job.

    Args:
        structure: the name of its structure.
        fields: what the structure holds; what is not given is 0.
        reads: memory that it reads.
        writes: memory that it writes.
    """

    structure: str
    fields: dict[str, Any]
    reads: list[Span] = field(default_factory=list)
    writes: list[Span] = field(default_factory=list)

    def __getitem__(self, name: str) -> int:
        return int(self.fields.get(name, 0))

    def is_a(self, structure: str, **fields: int) -> bool:
        """Whether it is of a structure, and its fields are these."""
        same = all(self[name] == value for name, value in fields.items())
        return self.structure == structure and same

    def reading(self, spans: list[Span]) -> bool:
        """Whether it reads any of these."""
        return any(a.touches(b) for a in self.reads for b in spans)

    def writing(self, spans: list[Span]) -> bool:
        """Whether it writes any of these."""
        return any(a.touches(b) for a in self.writes for b in spans)

    def words(self) -> np.ndarray:
        """Its words as the kernels take them: (WORDS,) of int64."""
        words = np.zeros(WORDS, np.int64)
        kinds = dict(structures()[self.structure])
        if unknown := self.fields.keys() - kinds.keys():
            raise KeyError(f"{self.structure} has no {', '.join(unknown)}")
        for i, (name, kind) in enumerate(kinds.items()):
            value = self.fields.get(name, 0)
            words[i] = np.float64(value).view(np.int64) if kind == "double" else value
        words[0] = numbers()[self.structure.upper()]
        return words

    @classmethod
    def of(cls, structure: str, words: np.ndarray) -> "Job":
        """The job that has these words; of the memory that it touches nothing is known."""
        kinds = structures()[structure][len(HEAD) :]
        own = words[len(HEAD) : len(HEAD) + len(kinds)]
        values = zip(own.tolist(), own.view(np.float64).tolist(), strict=True)
        pairs = zip(kinds, values, strict=True)
        return cls(structure, {name: v[kind == "double"] for (name, kind), v in pairs})

    def addresses(self) -> Iterator[int]:
        """Which of its words are addresses of memory."""
        fields = structures()[self.structure]
        return (i for i, (name, kind) in enumerate(fields) if kind.endswith("*") and self[name])


def linked(jobs: list[Job]) -> None:
    """Tells each job which product comes next: its weights may be on their way before."""
    ahead = len(jobs)
    for number in reversed(range(len(jobs))):
        jobs[number].fields["ahead"] = ahead
        if jobs[number].structure == "Product":
            ahead = number


def table(jobs: list[Job]) -> np.ndarray:
    """Jobs at one position: (n, WORDS) of int64."""
    return np.array([job.words() for job in jobs]).reshape(-1, WORDS)


def entries(origin: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Jobs as the kernel reads them: (n, 2, WORDS), their words at 0 and what each grows by."""
    return np.ascontiguousarray(np.stack([origin, slope], axis=1))

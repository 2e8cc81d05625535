"""Which jobs read and which write some memory, found without asking all of them."""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence

from minigpt.fast.cuda.job import Job, Span


class Touched:
    """Who reads and who writes which memory, among what jobs write."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._regions: list[Span] = []  # of memory that is written, apart from each other
        for span in sorted(span for job in jobs for span in job.writes):
            if self._regions and span.begin < self._regions[-1].end:
                last = self._regions.pop()
                span = Span(last.begin, max(last.end, span.end))
            self._regions.append(span)
        self._read: list[list[Job]] = [[] for _ in self._regions]
        self._written: list[list[Job]] = [[] for _ in self._regions]
        for job in jobs:
            for found, spans in ((self._read, job.reads), (self._written, job.writes)):
                for region in self._near(spans):
                    found[region].append(job)

    def _near(self, spans: Iterable[Span]) -> Iterator[int]:
        found = set[int]()
        for span in spans:
            i = max(0, bisect(self._regions, (span.begin,)) - 1)
            while i < len(self._regions) and self._regions[i].begin < span.end:
                if self._regions[i].touches(span):
                    found.add(i)
                i += 1
        return iter(sorted(found))

    def readers(self, spans: list[Span]) -> list[Job]:
        """Jobs that read any of these."""
        near = (job for region in self._near(spans) for job in self._read[region])
        return [job for job in dict.fromkeys(near) if job.reading(spans)]

    def writers(self, spans: list[Span]) -> list[Job]:
        """Jobs that write any of these."""
        near = (job for region in self._near(spans) for job in self._written[region])
        return [job for job in dict.fromkeys(near) if job.writing(spans)]

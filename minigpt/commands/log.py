"""The log and the recording of a run: JSON lines, in a file or on standard output."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minigpt.checkpoint.hub import SHIPPED, find
from minigpt.inference.load import LanguageModel
from minigpt.storage.files import cache_folder
from minigpt.storage.outputs import STREAMS, check_apart, lines

STDOUT = Path("-")  # the records are what is printed


@contextmanager
def open_lines(
    path: Path | None, name: str, lm: LanguageModel, beside: Path | None = None
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """What writes JSON objects of a run of `lm`, a line for each; nothing without a path.

    Args:
        name: what errors call the file.
        beside: another file that is written at the same time.

    Raises:
        InputError: it cannot be written, or is a file that the program reads or writes.
    """
    if path is None:
        yield lambda record: None
    elif path == STDOUT:
        yield lambda record: print(json.dumps(record), flush=True)
    else:
        check_apart([path], [*_in_use(lm), *([beside] if beside else [])])
        with lines(path, f"the {name} {path}") as write:
            yield lambda record: write(json.dumps(record).encode())


def _in_use(lm: LanguageModel) -> Iterator[Path | int]:
    """The streams, and the files that this program reads: of models, of its cache, its own."""
    yield from STREAMS
    yield from lm.files
    yield from find(SHIPPED).files.values()
    with suppress(OSError):  # without a home there is no cache
        yield from cache_folder().glob("**/*")
    sources = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    yield from (Path(source) for source in sources if source)
    with suppress(OSError):  # of libraries that no module is, where the system tells of them
        maps = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
        yield from {Path(line[line.index("/") :]) for line in maps if "/" in line}

"""The `report` command: a recording as tables, or as files of the kinds that their endings say."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from minigpt.commands.terminal import console
from minigpt.errors import InputError
from minigpt.recording.read import Recording, read
from minigpt.storage.files import check_apart, reason, written_whole
from minigpt.views.options import ViewOptions

VIEWS = {
    ".csv": "frames",
    ".folded": "folded",
    ".html": "page",
    ".pdf": "plots",
    ".pftrace": "trace",
    ".pickle": "memory_viz",
    ".png": "plots",
    ".speedscope.json": "speedscope",
    ".svg": "plots",
}
"""The module of `minigpt.views` that writes files whose names end so."""

Write = Callable[[Recording, Path, ViewOptions], None]


def run(
    recording: Path,
    to: Sequence[Path] = (),
    options: ViewOptions = ViewOptions(),  # noqa: B008
) -> None:
    """Prints what a recording says, or writes views of it.

    Args:
        to: files to write, each a view of the kind that its ending says.

    Raises:
        InputError: it is no recording, an ending is not known, or a file cannot be written.
    """
    views = [(path, _view(path)) for path in to]
    check_apart(to, [recording])
    found = read(recording)
    if not views:
        from minigpt.views.terminal import tables

        console().print(tables(found))
    for path, write in views:
        try:
            with written_whole(path) as part:
                write(found, part, options)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {reason(error)}") from None
        print(f"{path}: {path.stat().st_size:,} bytes")


def _view(path: Path) -> Write:
    """What writes a file of this name.

    Raises:
        InputError: nothing does.
    """
    for ending, module in VIEWS.items():
        if path.name.endswith(ending):
            write: Write = import_module(f"minigpt.views.{module}").write
            return write
    raise InputError(f"{path}: a view's name ends with one of {', '.join(VIEWS)}")

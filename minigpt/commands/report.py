"""The `report` command: a recording as tables, or as files of the kinds that their endings say."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError, without_effect
from minigpt.recording.read import read
from minigpt.storage.outputs import STREAMS, check_apart, refusal, replaced
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

HEEDED = {"weight": {"folded", "speedscope"}, "gpu": {"page", "plots"}, "figure": {"plots"}}
"""The modules that do something with an option."""


def run(
    recording: Path,
    to: Sequence[Path] = (),
    options: ViewOptions = ViewOptions(),  # noqa: B008
) -> None:
    """Prints what a recording says, or writes views of it: all of them, or none.

    Args:
        to: files to write, each a view of the kind that its ending says.

    Raises:
        InputError: it is no recording, an ending is not known, an option would do nothing, or a
            file cannot be written.
    """
    modules = [_module(path) for path in to]
    _check_heeded(options, modules, to)
    check_apart(to, [recording, *([Path(options.gpu)] if options.gpu else []), *STREAMS])
    _check_once(to)
    found = read(recording)
    if not to:
        from minigpt.views.terminal import tables

        console().print(tables(found))
        return
    with ExitStack() as all_or_none:
        parts = [all_or_none.enter_context(_written(path)) for path in to]
        say = all_or_none.enter_context(doing(""))
        for path, part, module in zip(to, parts, modules, strict=True):
            say(f"making {path}")
            with _refused(path):
                import_module(f"minigpt.views.{module}").write(found, part, options)
    for path in to:
        print(f"{path}: {path.stat().st_size:,} bytes")


def _module(path: Path) -> str:
    """The name of the module that writes a file of this name.

    Raises:
        InputError: none does.
    """
    for ending, module in VIEWS.items():
        if path.name.endswith(ending):
            return module
    raise InputError(f"{path}: a view's name ends with one of {', '.join(VIEWS)}")


def _check_heeded(options: ViewOptions, modules: Collection[str], to: Sequence[Path]) -> None:
    """Raises InputError if an option was given that changes none of the views."""
    given = {
        name: value for name, value in vars(options).items() if value != getattr(ViewOptions, name)
    }
    idle = {f"--{name}": given[name] for name in given if HEEDED[name].isdisjoint(modules)}
    without_effect(idle, " and ".join(f"--to {path}" for path in to) or "a report without --to")
    if options.figure not in (None, "roofline") and "page" not in modules:
        without_effect({"--gpu": options.gpu}, f"--figure {options.figure}")


def _check_once(to: Sequence[Path]) -> None:
    """Raises InputError if two names are those of one file."""
    seen = set()
    for path in to:
        if (file := os.path.realpath(path)) in seen:
            raise InputError(f"{path} cannot be written twice: give it once")
        seen.add(file)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    with _refused(path), replaced(path) as part:
        yield part


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """A `with` block whose OSErrors say that a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {refusal(path, error)}") from None

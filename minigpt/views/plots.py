"""A recording as a figure for a paper: PNG, SVG or PDF, by matplotlib."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings

from minigpt.errors import InputError
from minigpt.recording.read import Recording
from minigpt.views import figures
from minigpt.views.options import ViewOptions
from minigpt.views.stacks import model

STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "font.size": 8,
    "grid.color": "0.9",
    "hatch.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # embedded as TrueType: text can be searched, and edited
    "text.parse_math": False,  # a name may have a $
}
DPI = 200  # of what is no vector

Draw = Callable[[Any, Recording, ViewOptions], None]
DRAWN: dict[str, Draw] = {
    "memory": figures.memory,
    "layers": figures.layers,
    "roofline": figures.roofline,
    "kv": figures.kv,
}


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Draws four panels, or the one of `options.figure`, in the format that the ending says.

    Raises:
        InputError: matplotlib is not installed, or was told of a backend that it does not know; no
            pass has ended, or the GPU is not known.
    """
    try:
        from matplotlib import rc_context
    except ImportError:
        raise InputError(
            f"{path.suffix} needs matplotlib: pip install -e '.[views]' in the clone"
        ) from None
    except ValueError as error:  # it looks at the variable when it is imported
        raise InputError(f"matplotlib refuses MPLBACKEND, leave it out: {error}") from None
    if not recording.passes:
        raise InputError(f"{recording.path} has nothing to draw: no pass has ended in it")
    with rc_context(STYLE), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing")  # of a name: a box stands in its place
        made = BytesIO()  # on a disk that is full matplotlib would fail over its own clean-up
        drawing(recording, options).savefig(made, format=path.suffix[1:], dpi=DPI)
    path.write_bytes(made.getvalue())


def drawing(recording: Recording, options: ViewOptions) -> Any:
    """The figure of matplotlib that `write` writes."""
    from matplotlib.figure import Figure

    if options.figure:
        figure = Figure(figsize=(5.5, 3.75), layout="constrained")
        DRAWN[options.figure](figure.subplots(), recording, options)
        return figure
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    figure.suptitle(_title(recording))
    for axes, draw in zip(figure.subplots(2, 2).flat, DRAWN.values(), strict=True):
        draw(axes, recording, options)
    return figure


def _title(recording: Recording) -> str:
    header = recording.header
    name = Path(model(recording)).name
    name = name if len(name) <= 60 else f"{name[:29]}…{name[-30:]}"
    n, batch = len(recording.passes), len(header["prompts"])
    tokens = f"{n} new token{'s' if n > 1 else ''}"
    return f"{name}, {header['dtype']}: {tokens}{f' of {batch} sequences' if batch > 1 else ''}"

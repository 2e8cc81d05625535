"""Arrays as pictures of few cells, and cells as colours."""

from math import ceil, prod
from typing import Any

import numpy as np
from rich.color import Color
from rich.style import Style
from rich.text import Text

from counting.show import grid

NOTHING = np.inf  # where a picture has no cell; means of finite numbers are finite
_SHEET = 8  # columns that one of many sheets takes at least

_GROUND = np.array([0x24, 0x28, 0x3B])
_ABOVE = np.array([0xFF, 0xB8, 0x6C])
_BELOW = np.array([0x6C, 0xA8, 0xFF])
_BROKEN = np.array([0xFF, 0x00, 0x66])


def picture(data: Any, rows: int, columns: int) -> tuple[np.ndarray | None, str]:
    """A bare array in at most (rows, columns) cells, and what a cell is.

    A vector runs on from row to row; a matrix lies as it is; of more axes, the last two lie side
    by side, as many as there is room for. A cell is the mean of the finite elements of a block:
    NaN if there is none, NOTHING between sheets and past the end. None without data or room.
    """
    shape = tuple(n for n in getattr(data, "shape", ()) if n != 1)
    if not prod(shape) or rows < 1 or columns < 1 or grid(data, 1, 1) is None:
        return None, ""
    x = data.reshape(shape)
    if x.ndim < 2:
        cells, legend = _run_on(x, rows, columns)
    elif x.ndim == 2:
        cells = _drawn(x, rows, columns)
        legend = _pooled(x.shape, cells.shape)
    else:
        cells, legend = _side_by_side(x.reshape(-1, *shape[-2:]), rows, columns)
    zoom = min(rows // cells.shape[0], columns // cells.shape[1])
    return cells.repeat(zoom, axis=0).repeat(zoom, axis=1), legend


def _drawn(x: Any, rows: int, columns: int) -> np.ndarray:
    cells = grid(x, rows, columns)
    assert cells is not None
    return cells


def _run_on(x: Any, rows: int, columns: int) -> tuple[np.ndarray, str]:
    cells = _drawn(x, 1, rows * columns)[0]
    down = ceil(cells.size / columns)
    across = min(columns, cells.size)
    missing = np.full(down * across - cells.size, NOTHING)
    legend = _pooled((1, x.size), (1, cells.size))
    return np.append(cells, missing).reshape(down, across), legend


def _side_by_side(x: Any, rows: int, columns: int) -> tuple[np.ndarray, str]:
    least = min(x.shape[2], _SHEET)
    sheets = min(len(x), max(1, (columns + 1) // (least + 1)))
    across = (columns - sheets + 1) // sheets
    drawn = [_drawn(sheet, rows, across) for sheet in x[:sheets]]
    gap = np.full((drawn[0].shape[0], 1), NOTHING)
    parts = [part for sheet in drawn for part in (sheet, gap)][:-1]
    some = f"{sheets} of {len(x)}" if sheets < len(x) else f"{sheets}"
    pooled = _pooled(x.shape[1:], drawn[0].shape)
    legend = f"{some} sheets of {x.shape[1]}x{x.shape[2]}"
    return np.concatenate(parts, axis=1), f"{legend}, {pooled}" if pooled else legend


def _pooled(shape: tuple[int, ...], cells: tuple[int, ...]) -> str:
    down, across = ceil(shape[0] / cells[0]), ceil(shape[1] / cells[1])
    if down * across == 1:
        return ""
    block = f"{down}x{across}" if down > 1 else f"{across}"
    return f"means of {block}"


def colours(cells: np.ndarray) -> np.ndarray:
    """A colour (..., 3) for each cell: the darker the nearer to 0, blue below it, orange above."""
    finite = np.isfinite(cells)
    value = np.where(finite, cells, 0.0)
    largest = np.abs(value).max(initial=0.0) or 1.0
    share = (np.abs(value) / largest)[..., None]
    hue = np.where((value < 0)[..., None], _BELOW, _ABOVE)
    shade = np.rint(_GROUND + share * (hue - _GROUND)).astype(int)
    return np.where(np.isnan(cells)[..., None], _BROKEN, shade)


def text(cells: np.ndarray) -> Text:
    """Cells in colours, two of them one above the other in a character."""
    if len(cells) % 2:
        cells = np.vstack([cells, np.full((1, cells.shape[1]), NOTHING)])
    shades = colours(cells)
    drawn = Text()
    for row in range(0, len(cells), 2):
        for column in range(cells.shape[1]):
            upper, lower = (
                None
                if cells[i, column] == NOTHING
                else Color.from_rgb(*map(int, shades[i, column]))
                for i in (row, row + 1)
            )
            if upper is None and lower is None:
                drawn.append(" ")
            elif upper is None:
                drawn.append("▄", Style(color=lower))
            else:
                drawn.append("▀", Style(color=upper, bgcolor=lower))
        drawn.append("\n")
    drawn.right_crop(1)
    return drawn

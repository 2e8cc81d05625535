"""How an array shows itself: in a debugger, a terminal and a notebook.

Nothing here is counted: values are read from the bare array, past the ledger.
"""

from html import escape
from typing import Any

import numpy as np

from counting.counts import grouped
from counting.views import flops

SAMPLE = 1 << 22  # elements that statistics look at; of a larger array every k-th
FEW = 3  # values shown from either end
LARGEST = np.finfo(np.float64).max
SHADES = " .:-=+*#%@"


def text(x: Any) -> str:
    """A counted array in one line, what one wants to know first: `Counted((3, 4) float32, …)`.

    Shape, dtype, bytes, category and path; the operation that made it, its FLOP and kinds; a few
    values, least, mean and largest, and how many are not finite.
    """
    shown = values(x.data)
    return f"Counted({facts(x)}{'; ' if shown else ''}{shown})"


def facts(x: Any) -> str:
    """What the ledger knows of a counted array."""
    spec, charge = x.spec, x.charge
    said = f"{spec.shape} {spec.dtype}, {grouped(spec.nbytes)} B of {spec.category}"
    if x.path:
        said += f" at {x.path}"
    if charge:
        said += f" by {charge.operation}: {grouped(flops(charge))} FLOP"
        if charge.cost:
            said += f" {dict(charge.cost)}"
    return said


def values(data: Any) -> str:
    """A few values of a bare array and what they range over; "" if it has none."""
    numbers, step = sample(data)
    if numbers is None or not numbers.size:
        return ""
    few = [f"{v:.4g}" for v in numbers[: 2 * FEW]]
    if data.size > 2 * FEW:
        few[FEW:] = ["…", *(f"{v:.4g}" for v in numbers[-FEW:])]
    finite = numbers[np.isfinite(numbers)]
    said = " ".join(few)
    if data.dtype.kind == "c":
        said = f"absolute values {said}"
    if finite.size:
        least, most = finite.min(), finite.max()
        with np.errstate(over="ignore"):
            mean = np.clip((finite / finite.size).sum(), least, most)
        said += f", min {least:.4g} mean {mean:.4g} max {most:.4g}"
    if step > 1:
        said += f" of every {step}th"
    for name, n in (("NaN", np.isnan(numbers).sum()), ("inf", np.isinf(numbers).sum())):
        if n:
            said += f", WARNING: {n:,} {name}"
    return said


def sample(data: Any) -> tuple[np.ndarray | None, int]:
    """The elements of a bare array as float64 (n,), every k-th if they are many, and that k.

    Absolute values of complex ones. None for an array without data, or with fields, or one that
    answers nothing but products.
    """
    if not _shows(data):
        return None, 1
    step = max(1, -(-data.size // SAMPLE))
    flat = data.flat if isinstance(data, np.ndarray | np.generic) else data.reshape(-1)
    return _float64(flat[::step]), step


def _shows(data: Any) -> bool:
    """Whether it has numbers to look at."""
    if isinstance(data, np.ndarray | np.generic):
        return data.dtype.names is None
    return hasattr(data, "get")


def _float64(data: Any) -> np.ndarray:
    host = data.get() if hasattr(data, "get") else data
    if host.dtype == object:  # numbers that count their own operations: look past them
        host = np.array([getattr(v, "value", v) for v in host.flat], float).reshape(host.shape)
    with np.errstate(all="ignore"):
        return (abs(host) if host.dtype.kind == "c" else host).astype(np.float64)


def grid(data: Any, rows: int, columns: int) -> np.ndarray | None:
    """A bare array as a picture of at most (rows, columns): means of the finite in each cell.

    All axes but the last are laid under one another; NaN where a cell has no finite element.
    None for an array without data.
    """
    if not _shows(data) or not data.size:
        return None
    sheet = data.reshape(-1, data.shape[-1]) if data.ndim else data.reshape(1, 1)
    down = -(-sheet.shape[0] // rows)
    across = -(-sheet.shape[1] // columns)
    cells = []
    for top in range(0, sheet.shape[0], down):
        band = _float64(sheet[top : top + down])
        good = np.isfinite(band)
        starts = np.arange(0, band.shape[1], across)
        most = down * across
        with np.errstate(over="ignore"):  # the largest numbers there are, summed
            parts = np.add.reduceat((np.where(good, band, 0.0) / most).sum(axis=0), starts)
            n = np.add.reduceat(good.sum(axis=0), starts)
            means = parts * (most / np.maximum(n, 1))
        cells.append(np.where(n > 0, np.clip(means, -LARGEST, LARGEST), np.nan))
    return np.array(cells)


def heat(data: Any, rows: int = 16, columns: int = 64) -> list[str]:
    """A bare array as a picture in characters, the last line saying which values they stand for.

    The darker the larger; `?` where nothing is finite. No lines for an array without data.
    """
    cells = grid(data, rows, columns)
    if cells is None:
        return []
    if not np.isfinite(cells).any():
        return ["?" * cells.shape[1] for _ in cells] + ["nothing is finite"]
    least, most = float(np.nanmin(cells)), float(np.nanmax(cells))
    half = most / 2 - least / 2 or 1.0
    level = (cells / 2 - least / 2) / half * (len(SHADES) - 1)
    lines = ["".join("?" if np.isnan(v) else SHADES[round(float(v))] for v in row) for row in level]
    pooled = "" if cells.size == data.size else f", each the mean of up to {_pool(data, cells)}"
    return [*lines, f"{least:.4g} '{SHADES[0]}' to {most:.4g} '{SHADES[-1]}'{pooled}"]


def _pool(data: Any, cells: np.ndarray) -> str:
    last = data.shape[-1] if data.ndim else 1
    down, across = -(-data.size // last // cells.shape[0]), -(-last // cells.shape[1])
    return f"{down} x {across}"


def html(x: Any) -> str:
    """A counted array for a notebook: its facts, and a small heat map, blue below 0, red above."""
    said = f"<div><code>Counted({escape(facts(x))})</code></div>"
    cells = grid(x.data, 16, 48)
    if cells is None:
        return said
    largest = float(np.nanmax(np.abs(cells))) if np.isfinite(cells).any() else 1.0

    def cell(v: float) -> str:
        if np.isnan(v):
            colour = "#000"
        else:
            fade = round(255 * (1 - abs(v) / (largest or 1.0)))
            colour = f"rgb(255,{fade},{fade})" if v > 0 else f"rgb({fade},{fade},255)"
        style = f"background:{colour};width:8px;height:8px;padding:0"
        return f'<td title="{v:.4g}" style="{style}"></td>'

    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in cells)
    style = "border-collapse:collapse;margin:4px 0"
    shown = escape(values(x.data))
    return f'{said}<table style="{style}">{body}</table><div><code>{shown}</code></div>'

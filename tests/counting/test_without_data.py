"""Functions that are NumPy's own code run on shapes alone as well, and record the same."""

import numpy as np
import pytest
import sympy

from counting import Counted, Ledger, ShapeArray, trace, uncounted
from counting.names import made_in
from counting.program import Program, plain

PROGRAMS = {
    "diff": lambda x: np.diff(x, axis=0),
    "roll": lambda x: np.roll(x, 1, axis=0),
    "tile": lambda x: np.tile(x, (2, 1)),
    "kron": lambda x: np.kron(x, x),
    "triu": np.triu,
    "trace": np.trace,
    "pad": lambda x: np.pad(x, 1),
    "gradient": lambda x: np.gradient(x, axis=0),
    "cov": np.cov,
    "outer": lambda x: np.outer(x, x),
    "norm": np.linalg.norm,
    "norm1": lambda x: np.linalg.norm(x, axis=1),
    "split": lambda x: np.split(x, 2)[0],
    "rot90": np.rot90,
    "meshgrid": lambda x: np.meshgrid(x[0], x[1])[0],
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "tensordot": lambda x: np.tensordot(x, x, 1),
    "solve": lambda x: np.linalg.solve(x, x),
    "svd": lambda x: np.linalg.svd(x)[0],
    "qr": lambda x: np.linalg.qr(x)[0],
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "eigh": lambda x: np.linalg.eigh(x)[0],
    "chol": lambda x: np.linalg.cholesky(x @ x.T + 9 * np.eye(4)),
    "fft": lambda x: np.fft.fft(x),
    "rfft": lambda x: np.fft.rfft(x, axis=0),
    "irfft": lambda x: np.fft.irfft(np.fft.rfft(x)),
    "fftshift": np.fft.fftshift,
    "convolve": lambda x: np.convolve(x[0], x[1]),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "average": lambda x: np.average(x, axis=0),
    "std": lambda x: x.std(0),
    "ptp": lambda x: np.ptp(x, axis=1),
    "clip": lambda x: np.clip(x, 0, 1),
    "sort": lambda x: np.sort(x, axis=0),
    "argsort": lambda x: x.argsort(1),
    "vander": lambda x: np.vander(x[0]),
    "block": lambda x: np.block([[x, x], [x, x]]),
    "reshape T": lambda x: x.T.reshape(-1),
    "ravel T": lambda x: x.T.ravel(),
    "flatten": lambda x: x.T.flatten(),
    "moveaxis": lambda x: np.moveaxis(x[None], 0, 2).reshape(-1),
    "repeat": lambda x: x.repeat(2, 1),
    "interp": lambda x: np.interp(x, np.arange(3.0), np.arange(3.0)),
    "nan_to_num": np.nan_to_num,
    "isclose": lambda x: np.isclose(x, x),
    "trapezoid": lambda x: np.trapezoid(x),
    "cross": lambda x: np.cross(x[:, :3], x[:, 1:]),
    "matrix_power": lambda x: np.linalg.matrix_power(x, 5),
    "multi_dot": lambda x: np.linalg.multi_dot([x, x, x]),
    "linspace": lambda x: x * np.linspace(0, 1, 4),
    "eye": lambda x: x @ np.eye(4),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "stack": lambda x: np.stack([x, x], 1).reshape(-1),
    "polyval": lambda x: np.polyval([1.0, 2.0, 3.0], x),
    "median": np.median,
    "nanmean": np.nanmean,
    "percentile": lambda x: np.percentile(x, 30),
    "hanning": lambda x: x * np.hanning(4),
    "angle": lambda x: np.angle(x + 1j),
    "sinc": np.sinc,
    "delete": lambda x: np.delete(x, 1, axis=0),
    "insert": lambda x: np.insert(x, 1, 0.0, axis=0),
}
BY_DATA = {"nan_to_num", "nanmean", "median", "percentile"}  # they ask for elements that are none


def recorded(program, data):
    ledger = Ledger()
    with made_in(ledger):
        return Program(ledger).meaning(program)(Counted(data, ledger)), ledger.snapshot()


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("seed", [0, 1])
def test_shapes_alone_give_what_a_run_on_numbers_records(name, seed):
    x = np.random.default_rng(seed).random((4, 4))
    program = PROGRAMS[name]
    expected = program(x)
    result, counts = recorded(program, x.copy())
    assert np.array_equal(np.asarray(plain(result)), expected, equal_nan=True)
    if name in BY_DATA:
        with pytest.raises(TypeError, match=r"(without|no) data"):
            recorded(program, ShapeArray(x.shape, x.dtype))
        return
    shape, without = recorded(program, ShapeArray(x.shape, x.dtype))
    assert (shape.shape, shape.dtype) == (np.shape(expected), expected.dtype)
    assert dict(without) == dict(counts)


def test_a_transform_of_symbols_is_a_formula():
    n = sympy.Symbol("n", integer=True, positive=True)
    cost = trace(np.fft.fft, (n,), dtype=np.complex128).cost
    assert cost.flops == 5 * n * sympy.ceiling(sympy.log(n, 2))
    assert trace(np.fft.fft, (8,), dtype=np.complex128).cost.flops == 5 * 8 * 3


ASKING = {
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x[0]),
    "bool": lambda x: bool(x.sum()),
    "if": lambda x: 1 if x.sum() > 0 else 2,
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "round": lambda x: round(x.sum()),
    "in": lambda x: 3.0 in x,
    "range": lambda x: range(x[0].astype(int)),
    "format": lambda x: f"{x.sum():.2f}",
}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("length", [5, sympy.Symbol("n", integer=True, positive=True)])
def test_a_program_that_asks_for_a_value_is_told_that_there_is_none(name, length):
    said = r"asks for values of ShapeArray\(.*\), which has no data"
    with pytest.raises(TypeError, match=said):
        trace(ASKING[name], (length,))
    with uncounted(), pytest.raises(TypeError, match=said):
        trace(ASKING[name], (length,))

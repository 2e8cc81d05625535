"""The arrays of a job where they lie on the GPU, by the addresses that the job holds."""

from typing import Any

import cupy
import numpy as np
from numpy.lib.stride_tricks import as_strided

from gpu_visit.lines import NUMBERS
from minigpt.fast.cuda.job import Job
from minigpt.fast.cuda.source import structures

DTYPES = {"float*": "f4", "u16*": "f2", "i64*": "i8", "unsigned char*": "?"}
Form = tuple[tuple[int, ...], tuple[int, ...] | None]  # lengths and strides, None if in one piece


class Held:
    """A copy of memory of the GPU.

    Args:
        address: on the GPU.
        form: lengths, and strides in elements.
        dtype: of an element.

    Attributes:
        array: the copy, of these lengths.
    """

    def __init__(self, address: int, form: Form, dtype: Any) -> None:
        shape, steps = form
        self.address, dtype = address, np.dtype(dtype)
        if steps is None:
            self.array = self._piece = np.empty(shape, dtype)
        else:
            last = sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
            self._piece = np.empty(last + 1, dtype)
            self.array = as_strided(self._piece, shape, [step * dtype.itemsize for step in steps])
        self.read()

    def read(self) -> None:
        """Makes it a copy of what lies there now."""
        runtime, (here, size) = cupy.cuda.runtime, self._here()
        runtime.memcpy(here, self.address, size, runtime.memcpyDeviceToHost)

    def write(self) -> None:
        """Puts the copy back."""
        runtime, (here, size) = cupy.cuda.runtime, self._here()
        runtime.memcpy(self.address, here, size, runtime.memcpyHostToDevice)

    def _here(self) -> tuple[int, int]:
        return self._piece.ctypes.data, self._piece.nbytes


def arrays(job: Job) -> dict[str, Held]:
    """What a job whose addresses are the GPU's reads and writes there, by its fields."""
    forms, kinds = _FORMS[job.structure](job), dict(structures()[job.structure])
    found = {}
    for name, form in forms.items():
        if job[name]:
            half = name == "to" and job["half"]
            dtype = "f2" if half else DTYPES[kinds[name].removeprefix("const ")]
            found[name] = Held(job[name], form, dtype)
    return found


def _product(job: Job) -> dict[str, Form]:
    K, N, D = job["K"], job["N"], job["D"]
    parts = job["made_of"] == NUMBERS["PARTS"]
    x: Form = ((K // D, job["splits"], D + 2) if parts else (K,), None)
    of_K, of_N = ("gain", "shift", "up"), ("bias", "residual", "y")
    rows = dict.fromkeys(of_K, ((K,), None)) | dict.fromkeys(of_N, ((N,), None))
    return {"x": x, "w": ((N, K), None), **rows}


def _attention(job: Job) -> dict[str, Form]:
    H, S, D = job["heads"], job["S"], job["D"]
    K = H // job["group"]
    caches: Form = (K, S, D), (job["head"], D, 1)
    return {
        "q": ((H, D), None),
        **dict.fromkeys(("k", "v"), caches),
        **dict.fromkeys(("new_k", "new_v"), ((K, D), None)),
        **dict.fromkeys(("cos", "sin"), ((D,), None)),
        "mask": ((S,), None),
        "y": ((H, job["splits"], D + 2), None),
    }


def _rows(job: Job) -> dict[str, Form]:
    lengths = job["length1"], job["length2"], job["length3"]
    shape = job["rows"] // (lengths[0] * lengths[1] * lengths[2]), *lengths, job["d"]
    return {name: (shape, tuple(job[f"{name}{i}"] for i in range(5))) for name in ("to", "a", "b")}


def _norm(job: Job) -> dict[str, Form]:
    rows = dict.fromkeys(("x", "y"), ((job["rows"], job["d"]), None))
    return {**rows, **dict.fromkeys(("gain", "shift"), ((job["d"],), None))}


def _gathered(job: Job) -> dict[str, Form]:
    index = int(Held(job["index"], ((1,), None), "i8").array[0])
    own = dict.fromkeys(("bias", "y"), ((job["d"],), None))
    return {"table": ((index + 1, job["d"]), None), "index": ((1,), None), **own}


_FORMS: dict[str, Any] = {
    "Product": _product,
    "Attention": _attention,
    "Rows": _rows,
    "Norm": _norm,
    "Gathered": _gathered,
    "Position": lambda job: {"y": ((1,), None)},
}

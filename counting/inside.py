"""What NumPy keeps to itself: functions in C that its Python code calls, in one place.

They may be others in another version: what one lacks is None.
"""

from importlib import import_module
from typing import Any


def _inside(module: str, *names: str) -> Any:
    """A module of NumPy's, or something in it, by names one after another; None if it lacks it."""
    found: Any = import_module(module)
    for name in names:
        found = getattr(found, name, None)
    return found


LINALG = _inside("numpy.linalg._umath_linalg")
FOURIER = _inside("numpy.fft._pocketfft_umath")
clip = _inside("numpy._core.umath", "clip")
clip_method = _inside("numpy._core._methods", "_clip")
c_einsum = _inside("numpy._core.einsumfunc", "c_einsum")
parse_einsum_input = _inside("numpy._core.einsumfunc", "_parse_einsum_input")
correlate = _inside("numpy._core.multiarray", "correlate")
correlate2 = _inside("numpy._core.multiarray", "correlate2")
count_nonzero = _inside("numpy._core.multiarray", "count_nonzero")
concatenate = _inside("numpy._core.multiarray", "concatenate", "_implementation")
array_converter = _inside("numpy._core._multiarray_umath", "_array_converter")
unique_hash = _inside("numpy._core._multiarray_umath", "_unique_hash")
broadcast_to = _inside("numpy.lib._stride_tricks_impl", "_broadcast_to")
monotonicity = _inside("numpy.lib._function_base_impl", "_monotonicity")
place = _inside("numpy.lib._function_base_impl", "_place")
interp = _inside("numpy.lib._function_base_impl", "compiled_interp")
interp_complex = _inside("numpy.lib._function_base_impl", "compiled_interp_complex")

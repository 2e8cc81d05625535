"""The types that weights are stored in, by their names: in NumPy, and in safetensors files."""

import numpy as np

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:  # a checkout that nothing was installed for does without
    _BFLOAT16 = {}
else:
    _BFLOAT16 = {"bfloat16": np.dtype(bfloat16)}

NUMPY = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    **_BFLOAT16,
    "int8": np.dtype(np.int8),
}
CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
BY_CODE = {code: NUMPY[name] for name, code in CODES.items() if name in NUMPY}

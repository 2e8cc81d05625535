"""The types that weights are stored in, by their names: in NumPy, and in safetensors files."""

import ml_dtypes  # noqa: F401
import numpy as np

CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
NUMPY = {name: np.dtype(name) for name in CODES}  # ml_dtypes tells NumPy of bfloat16
BY_CODE = {code: NUMPY[name] for name, code in CODES.items()}

"""Programs in files that define a function, and such a function with another NumPy."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from counting.program import own
from minigpt.errors import InputError

ASKED = "define a function `program` and a tuple `arguments` of arrays in it"


def loaded(path: str) -> tuple[Any, tuple[Any, ...]]:
    """The function `program` and the tuple `arguments` of arrays that a file defines.

    Raises:
        InputError: it does not, or cannot be run.
    """
    name, file = f"verified_{Path(path).stem}", Path(path).resolve()
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)  # who asks whose a function is, looks there
    sys.path.insert(0, str(file.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: {line(error)}") from error
    finally:
        sys.path.remove(str(file.parent))
    program: Any = getattr(module, "program", None)
    arguments: Any = getattr(module, "arguments", None)
    arrays = isinstance(arguments, tuple) and all(isinstance(x, np.ndarray) for x in arguments)
    if not (callable(program) and arrays):
        raise InputError(f"{path} cannot be verified: {ASKED}")
    return program, arguments


def line(error: BaseException) -> str:
    """An error in one line."""
    told = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {told}" if told else type(error).__name__


def in_place_of_numpy(x: Any, namespace: Any, array: Any, made: dict[int, Any]) -> Any:
    """A function of the program, and what it uses of the program's, with another NumPy.

    Args:
        namespace: what stands for NumPy.
        array: makes an array of its own of a bare one.
        made: what was made already, by the `id` of what it stands for.
    """
    if id(x) in made:
        return made[id(x)]
    found, module = x, getattr(x, "__module__", None) or ""
    if isinstance(x, np.ndarray):
        found = array(x)
    elif isinstance(x, ModuleType):
        found = _named(namespace, x.__name__, x)
    elif isinstance(x, np.ufunc) or module.partition(".")[0] == "numpy":
        name = getattr(x, "__name__", "")
        found = _named(namespace, f"{module or 'numpy'}.{name}", x) if name else x
    elif isinstance(x, FunctionType) and own(module):
        names = made.get(id(x.__globals__))
        if names is None:
            names = made[id(x.__globals__)] = dict(x.__globals__)  # before they ask for each other
            for name, value in x.__globals__.items():
                names[name] = in_place_of_numpy(value, namespace, array, made)
        if id(x) in made:  # among those names
            return made[id(x)]
        cells = tuple(CellType() for _ in x.__closure__ or ())
        found = made[id(x)] = FunctionType(x.__code__, names, x.__name__, x.__defaults__, cells)
        found.__kwdefaults__ = x.__kwdefaults__
        for cell, real in zip(cells, x.__closure__ or (), strict=True):
            cell.cell_contents = in_place_of_numpy(real.cell_contents, namespace, array, made)
    made[id(x)] = found
    return found


def _named(namespace: Any, dotted: str, otherwise: Any) -> Any:
    first, *parts = dotted.split(".")
    if first != "numpy":
        return otherwise
    for part in parts:
        namespace = getattr(namespace, part, None)
    return otherwise if namespace is None else namespace


def name_here(operation: str) -> str:
    """What a ledger calls an operation that has another of NumPy's names: divide, true_divide."""
    function: Any = np
    for part in operation.split("."):
        function = getattr(function, part, None)
    method = isinstance(function, BuiltinFunctionType)  # of a ufunc: add.reduce
    return operation if method else getattr(function, "__name__", operation)

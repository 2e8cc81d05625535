"""Python code run with other globals: where it makes arrays, or would convert them, they count.

Most of NumPy is Python code over a few functions in C. A twin of such a function is the same code
object, line for line, in which names mean something else: `zeros` makes an array that counts,
`asarray` lets one pass. So nothing of it is written again to be counted, and what it costs is what
NumPy's own lines execute. A program of one's own is run the same way, see `counted`.
"""

from collections.abc import Callable
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from counting.calls import CALLS, JOINS
from counting.cost import Uncounted
from counting.costs import COSTS
from counting.names import SUBSTITUTES, Globals, made_in, making
from counting.rules import views
from counting.shapes import on_shapes

Dispatcher = type(np.sum)  # of NumPy's functions that ask their arguments who runs them

NOT_RUN: tuple[Any, ...] = (
    np.save,
    np.savez,
    np.savez_compressed,
    np.savetxt,
)  # arrays would leave by them
NOT_RUN += (np.array2string, np.array_repr, np.array_str)


def code_of(function: Any) -> Callable[..., Any] | None:
    """The twin of a NumPy function that is Python code; None of one in C."""
    code = getattr(function, "_implementation", None)
    return None if type(code) is not FunctionType or function in NOT_RUN else _function(code)


_MEANT: dict[int, tuple[Any, Any]] = {}  # by `id`: something of NumPy's, and what stands for it


def numpys(x: Any) -> Any:
    """What something of NumPy's is where arrays count; itself if that makes no difference.

    It is the same each time, for programs that ask `f is np.sum`.
    """
    if isinstance(x, str | int | float | complex | None):
        return x
    if id(x) not in _MEANT:
        _MEANT[id(x)] = x, _numpys(x)
    return _MEANT[id(x)][1]


def _numpys(x: Any) -> Any:
    if isinstance(x, ModuleType):
        return _module(x)
    if type(x) is dict:  # by name, ways to find a quantile or the width of a bin
        parts = {name: numpys(part) for name, part in x.items()}
        return parts if any(parts[name] is not part for name, part in x.items()) else x
    if type(x) in (list, tuple):
        found = type(x)(map(numpys, x))
        return found if any(y is not part for y, part in zip(found, x, strict=True)) else x
    try:
        if x in SUBSTITUTES:
            return SUBSTITUTES[x]
    except TypeError:  # it has no hash
        return x
    if isinstance(x, np.ufunc | Dispatcher | BuiltinFunctionType):
        return Asking(x)
    if type(x) is FunctionType:
        return _function(x)
    if isinstance(x, type):
        if issubclass(x, np.ndarray):
            return _refusing(x)
        return _class(x) if _is_code(x) else x
    if _is_code(type(x)):  # np.r_, np.mgrid
        made: Any = object.__new__(_class(type(x)))
        slots = (name for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ()))
        for name in (*slots, *getattr(x, "__dict__", ())):
            setattr(made, name, getattr(x, name))
        return made
    return x


def _refusing(kind: type) -> type:
    """A class of arrays that are not plain ones, which makes none."""

    def refuse(cls: type, *args: Any, **options: Any) -> Any:
        raise Uncounted(f"operators of a {kind.__name__} are not those of a plain array")

    return type(kind)(kind.__name__, (kind,), {"__new__": refuse})


def of_numpy(module: str | None) -> bool:
    """Whether a module is NumPy or one of its modules."""
    return module is not None and module.partition(".")[0] == "numpy"


def _is_code(kind: type) -> bool:
    """Whether a class is Python code of NumPy's that computes."""
    methods = (x for base in kind.__mro__ for x in vars(base).values())
    codes = (x.__globals__["__name__"] for x in methods if type(x) is FunctionType)
    found = any(name.startswith(("numpy.lib.", "numpy.polynomial.")) for name in codes)
    return found and not issubclass(kind, Exception | tuple | np.ndarray)


class Asking:
    """A function of NumPy's that is to be given arrays that count.

    Where none is among its arguments its Python code runs as a twin; what is in C is given those
    that count in the place of bare ones.
    """

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **options: Any) -> Any:
        function = self.function
        ledger = making.get()
        if function not in COSTS and ledger is not None and (code := code_of(function)):
            with made_in(ledger, on_shapes(args)):
                return code(*args, **options)
        known = any(map(_counts, (*args, *options.values())))
        if not known or (args and type(args[0]) in (list, tuple) and function in COSTS):
            to = _array if COSTS.get(function) is views else _countable
            args = (*map(to, args[: self._arrays]), *args[self._arrays :])
            if function in JOINS and args and type(args[0]) in (list, tuple):
                args = (tuple(map(_countable, args[0])), *args[1:])
        found = function(*args, **options)
        if options.get("out") is ... and isinstance(getattr(found, "data", None), np.generic):
            found.data = np.asarray(found.data)  # no number, but an array
        return found if known else _brought(function, found, args)

    @property
    def _arrays(self) -> int:
        """How many of its arguments are arrays."""
        if isinstance(self.function, np.ufunc):
            return self.function.nin
        if self.function in JOINS:
            return 0
        return CALLS[self.function].operands if self.function in CALLS else 1

    def __getattr__(self, name: str) -> Any:
        if name == "function":  # of one that pickle has not filled yet
            raise AttributeError(name)
        found = getattr(self.function, name)
        return Asking(found) if isinstance(found, BuiltinFunctionType) else found


def _brought(function: Any, found: Any, given: Any) -> Any:
    """What a function in C has made of no arrays that count: of a file, or of Python's numbers.

    Raises:
        Uncounted: an array that was computed, and nobody has counted it.
    """
    if isinstance(found, np.ndarray):
        read = isinstance(function, BuiltinFunctionType) and found.dtype.kind in "biufc"
        if read or (isinstance(function, np.ufunc) and all(isinstance(x, _NUMBERS) for x in given)):
            return _array(found)
        raise Uncounted(f"{function.__name__} is counted of arrays given by position")
    return found


def _counts(x: Any) -> bool:
    return hasattr(x, "spec") or (type(x) in (list, tuple) and any(map(_counts, x)))


_NUMBERS = (int, float, complex, np.number, np.bool_)


def _array(x: Any) -> Any:
    return SUBSTITUTES[np.asarray](x)


def _countable(x: Any) -> Any:
    """An array of an array or of what may become one; numbers stay, for they are weaker."""
    if isinstance(x, list | tuple | np.ndarray):
        return _array(x)
    return x if isinstance(x, type | np.generic) or not hasattr(x, "__array__") else _array(x)


_FUNCTIONS = (FunctionType, BuiltinFunctionType, Dispatcher, np.ufunc)


def _cell(cell: CellType) -> CellType:
    """What a function of NumPy's finds around it: a function of NumPy's is one here too."""
    real = cell.cell_contents
    means = numpys(real) if isinstance(real, _FUNCTIONS) else real
    return cell if means is real else CellType(means)


def rebound(function: FunctionType, names: Globals) -> Any:
    """The twin of a function: its code with other globals."""
    twin = FunctionType(
        function.__code__,
        names,
        function.__name__,
        function.__defaults__,
        function.__closure__ and tuple(map(_cell, function.__closure__)),
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__dict__.update(function.__dict__)
    return twin


MODULES: dict[str, Any] = {}  # what stands for one
_GLOBALS: dict[int, Globals] = {}
_CLASSES: dict[type, type] = {}


def _function(function: FunctionType) -> Any:
    real = function.__globals__
    names = _GLOBALS.get(id(real))
    if names is None:
        names = _GLOBALS[id(real)] = Globals(real, numpys)
    return rebound(function, names)


def _class(kind: type) -> type:
    if kind not in _CLASSES:
        _CLASSES[kind] = subclass(kind, _function)
    return _CLASSES[kind]


def subclass(kind: type, twin: Callable[[FunctionType], Any]) -> type:
    """The twin of a class: one derived from it, each method's twin in the place of the method."""
    named = (pair for base in reversed(kind.__mro__) for pair in vars(base).items())
    methods: dict[str, Any] = {}
    for name, x in named:
        if type(x) is FunctionType:
            methods[name] = twin(x)
        elif isinstance(x, staticmethod | classmethod) and type(x.__func__) is FunctionType:
            methods[name] = type(x)(twin(x.__func__))
    return type(kind)(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})


class Module:
    """A module of NumPy's as twins see it."""

    def __init__(self, module: ModuleType) -> None:
        self.__dict__.update(_module=module, __name__=module.__name__)

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__[name] = numpys(getattr(self._module, name))
        return found


def _module(module: ModuleType) -> Any:
    if of_numpy(module.__name__) and module.__name__ not in MODULES:
        MODULES[module.__name__] = Module(module)
    return MODULES.get(module.__name__, module)

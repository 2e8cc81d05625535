"""Python code run with other globals: where it makes arrays, or would convert them, they count.

Most of NumPy is Python code over a few functions in C. A twin of such a function is the same code
object, line for line, in which names mean something else: `zeros` makes an array that counts,
`asarray` lets one pass. So nothing of it is written again to be counted, and what it costs is what
NumPy's own lines execute. A program of one's own is run the same way, see `counted`.
"""

import builtins
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from counting.calls import JOINS
from counting.costs import COSTS

Dispatcher = type(np.sum)  # of NumPy's functions that ask their arguments who runs them

# What stands for functions and classes in C that do not ask; `creation` and `primitives` say what.
SUBSTITUTES: dict[Any, Any] = {}

# The ledger of arrays that twins make, while one runs.
making: ContextVar[Any] = ContextVar("making", default=None)

NOT_RUN: tuple[Any, ...] = (
    np.save,
    np.savez,
    np.savez_compressed,
    np.savetxt,
)  # arrays would leave by them
NOT_RUN += (np.array2string, np.array_repr, np.array_str)


@contextmanager
def made_in(ledger: Any) -> Iterator[None]:
    """A `with` block in which twins make arrays that count in `ledger`."""
    token = making.set(ledger)
    try:
        yield
    finally:
        making.reset(token)


def code_of(function: Any) -> Callable[..., Any] | None:
    """The twin of a NumPy function that is Python code; None of one in C."""
    code = getattr(function, "_implementation", None)
    return None if type(code) is not FunctionType or function in NOT_RUN else _function(code)


def numpys(x: Any) -> Any:
    """What something of NumPy's is where arrays count; itself if that makes no difference."""
    if isinstance(x, ModuleType):
        return _module(x)
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
        return _class(x) if _is_code(x) else x
    if _is_code(type(x)):  # np.r_, np.mgrid
        made: Any = object.__new__(_class(type(x)))
        slots = (name for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ()))
        for name in (*slots, *getattr(x, "__dict__", ())):
            setattr(made, name, getattr(x, name))
        return made
    return x


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
    """A function of NumPy's in C, which is given no arrays that count: what it is given counts."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.__name__ = function.__name__

    def __call__(self, *args: Any, **options: Any) -> Any:
        if not any(map(_counts, args)):
            n = len(args) if isinstance(self.function, np.ufunc) else 1
            args = (*map(_countable, args[:n]), *args[n:])
        elif (
            type(args[0]) in (list, tuple) and self.function in COSTS and self.function not in JOINS
        ):
            args = (_countable(args[0]), *args[1:])
        given = any(map(_counts, (*args, *options.values())))
        code = None if given else code_of(self.function)  # it would make a plain array of numbers
        made = (code or self.function)(*args, **options)
        numbers = isinstance(made, np.ndarray) and made.dtype.kind in "biufc"  # of a file, say
        return _countable(made) if numbers else made

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.function, name)
        return Asking(found) if isinstance(found, BuiltinFunctionType) else found


def _counts(x: Any) -> bool:
    return hasattr(x, "spec") or (type(x) in (list, tuple) and any(map(_counts, x)))


def _countable(x: Any) -> Any:
    return SUBSTITUTES[np.asarray](x) if isinstance(x, list | tuple | np.ndarray) else x


class Globals(dict[str, Any]):
    """The names of a module as a twin of its code sees them, each found when it is asked for.

    Args:
        real: the module's own.
        meaning: of a value among them.
    """

    def __init__(self, real: dict[str, Any], meaning: Callable[[Any], Any]) -> None:
        super().__init__(__builtins__=importing(meaning), __name__=real.get("__name__"))
        self.real, self.meaning = real, meaning

    def __missing__(self, name: str) -> Any:
        found = self[name] = self.meaning(self.real[name])
        return found


def importing(meaning: Callable[[Any], Any]) -> dict[str, Any]:
    """Python's own names, where an import gives what the module means."""

    def import_(name: str, names: Any = None, *args: Any, **options: Any) -> Any:
        real = names.real if type(names) is Globals else names
        return meaning(builtins.__import__(name, real, *args, **options))

    return {**vars(builtins), "__import__": import_}


def rebound(function: FunctionType, names: Globals) -> Any:
    """The twin of a function: its code with other globals."""
    twin = FunctionType(
        function.__code__,
        names,
        function.__name__,
        function.__defaults__,
        function.__closure__,
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
    if not of_numpy(module.__name__):
        return module
    if module.__name__ not in MODULES:
        MODULES[module.__name__] = Module(module)
    return MODULES[module.__name__]

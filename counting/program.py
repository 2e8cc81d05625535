"""Programs of plain arrays, run with arrays that count, as they stand."""

import site
import sys
import sysconfig
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from copy import copy
from enum import Enum, EnumType
from functools import cached_property, lru_cache, partial, wraps
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from counting import checks
from counting.array import Counted
from counting.cost import Shape, Uncounted
from counting.costs import REGISTERED
from counting.counts import Counts
from counting.drawing import Random
from counting.ledger import Ledger
from counting.names import Globals, made_in, without_data
from counting.shapes import ShapeArray
from counting.twins import Dispatcher, numpys, of_numpy


def counted(function: Callable[..., Any]) -> Callable[..., tuple[Any, Ledger]]:
    """Runs a function of plain arrays with arrays that count, and gives its result and a ledger.

    >>> product, ledger = counted(np.matmul)(np.ones((2, 3)), np.ones((3, 4)))
    >>> ledger.snapshot().cost
    Cost(fma=24)

    The function runs as it stands, line for line; and so do functions and classes of its own
    that it uses, whatever module they are in, but no installed one's. Arrays in its arguments and
    among its module's names count, and those that it makes. `float(x)`, `if x:` and the like take
    a copy of a number out of the count, which the ledger shows as `copy`; what Python computes
    with it is counted by nobody. Its result is plain again.
    """
    checks.function("function", function)

    @wraps(function)
    def run(*args: Any, **options: Any) -> tuple[Any, Ledger]:
        ledger = Ledger()
        program = Program(ledger)
        with made_in(ledger):
            result = program.meaning(function)(
                *map(program.meaning, args),
                **{name: program.meaning(x) for name, x in options.items()},
            )
        return plain(result), ledger

    return run


def plain(x: Any) -> Any:
    """Bare arrays in the place of counted ones, in tuples, lists and dicts too."""
    if type(x) is Counted:
        return x.data
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(plain, x))
    if type(x) in (tuple, list):
        return type(x)(map(plain, x))
    return {name: plain(part) for name, part in x.items()} if type(x) is dict else x


def trace(function: Callable[..., Any], *shapes: Shape, dtype: Any = np.float32) -> Counts:
    """What `function` would cost on arrays of `shapes`, found by running it without data.

    >>> trace(np.matmul, (2, 3), (3, 4)).cost
    Cost(fma=24)

    Sizes may be symbols of SymPy, and the cost is a formula then. Functions of the program and of
    NumPy run line by line as by `counted`, so that what `np.zeros` makes of symbols has no data
    either; all else is what it is: an object or a list that the function changes is changed.

    Raises:
        TypeError: values are asked for, or the number that a symbol stands for.
    """
    checks.function("function", function)
    ledger = Ledger()
    arrays = [Counted(ShapeArray(shape, dtype), ledger) for shape in shapes]
    symbols = sorted({str(n) for x in arrays for n in x.shape if hasattr(n, "free_symbols")})
    try:
        with made_in(ledger, on_shapes=True):
            Lines(ledger).meaning(function)(*arrays)
    except Exception as error:
        if symbols:
            error.add_note(
                f"{', '.join(symbols)} stood for sizes here. Loops over them and choices by them "
                "need numbers: trace it with these."
            )
        raise
    return ledger.snapshot()


INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {*site.getsitepackages(), site.getusersitepackages()}
)


def own(module: str | None) -> bool:
    """Whether a module is one of the program's: no installed one, and none of this package."""
    if module is None or module.partition(".")[0] == "counting":
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return module == "__main__" or (file is not None and not file.startswith(INSTALLED))


def has_registered(module: str) -> bool:
    """Whether a module is of a package with functions that were registered."""
    package = module.partition(".")[0]
    return any((x.__module__ or "").partition(".")[0] == package for x in REGISTERED.values())


_GENERATORS = (np.random.Generator, np.random.RandomState)
_CACHED = type(lru_cache(len))
_METHODS = (BuiltinFunctionType, MethodType)
_DATA = (np.ndarray, np.generic, np.dtype, *_GENERATORS)


class Program:
    """What names and values of a program mean while it runs with arrays that count.

    Args:
        ledger: where they count.
        own: which modules are the program's.
    """

    def __init__(self, ledger: Ledger, own: Callable[[str | None], bool] = own) -> None:
        self.ledger, self.own = ledger, own
        self.twins: dict[int, Any] = {}
        self.kept: list[Any] = []  # so that no other object gets the `id` of one

    def meaning(self, x: Any) -> Any:
        """What stands for a value; itself if that makes no difference."""
        if isinstance(x, str | int | float | complex | None):
            return x
        if id(x) not in self.twins:
            made = self._meaning(x)
            self.twins.setdefault(id(x), made)
            self.kept.append(x)
        return self.twins[id(x)]

    def _meaning(self, x: Any) -> Any:
        if isinstance(x, np.ndarray | ShapeArray):
            without_data.set(without_data.get() or type(x) is ShapeArray)
            return Counted(x, self.ledger)
        if isinstance(x, _GENERATORS):
            return Random(x)
        if type(x) in (tuple, list):
            return type(x)(map(self.meaning, x))
        if type(x) in (dict, OrderedDict, defaultdict):
            held = copy(x)
            held.clear()
            held.update({self.meaning(key): self.meaning(part) for key, part in x.items()})
            return held
        if type(x) is deque:
            return deque(map(self.meaning, x), x.maxlen)
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return self.meaning(type(x))(*map(self.meaning, x))
        if type(x) is partial:
            options = {name: self.meaning(part) for name, part in x.keywords.items()}
            return partial(self.meaning(x.func), *map(self.meaning, x.args), **options)
        if type(x) is _CACHED and self.own(x.__wrapped__.__module__):
            return lru_cache(**x.cache_parameters())(self.meaning(x.__wrapped__))
        if isinstance(x, ModuleType):
            if of_numpy(x.__name__) and not self.own(x.__name__):
                return numpys(x)
            return Own(x, self) if self.own(x.__name__) or has_registered(x.__name__) else x
        if isinstance(x, FunctionType | BuiltinFunctionType) and x in REGISTERED:
            return REGISTERED[x]
        if isinstance(x, np.ufunc | Dispatcher):
            return numpys(x)
        if isinstance(x, _METHODS) and isinstance(x.__self__, (*_GENERATORS, np.ndarray)):
            return getattr(self.meaning(x.__self__), x.__name__)
        module = getattr(x, "__module__", None)
        if of_numpy(module) and not self.own(module):
            return numpys(x)
        if type(x) is MethodType and self.own(x.__func__.__module__):
            return MethodType(self.meaning(x.__func__), self.meaning(x.__self__))
        if type(x) is FunctionType and self.own(x.__module__):
            return self.function(x)
        if isinstance(x, type):
            return self.class_(x) if self.own(x.__module__) and type(x) is not EnumType else x
        if self.own(type(x).__module__) and not isinstance(x, Enum | BaseException):
            return self.object_(x)
        return x

    def names(self, real: dict[str, Any]) -> Globals:
        """The names of a module of the program."""
        if id(real) not in self.twins:
            self.twins[id(real)] = Globals(real, self.meaning)
        return self.twins[id(real)]

    def function(self, x: FunctionType, **cells: CellType) -> FunctionType:
        """The twin of a function of the program."""
        free = zip(x.__code__.co_freevars, x.__closure__ or (), strict=True)
        closure = tuple(cells.get(name) or self._cell(cell) for name, cell in free)
        defaults = self.meaning(x.__defaults__) if x.__defaults__ else None
        names = self.names(x.__globals__)
        made = FunctionType(x.__code__, names, x.__name__, defaults, closure)
        made.__kwdefaults__ = self.meaning(x.__kwdefaults__) if x.__kwdefaults__ else None
        made.__dict__.update(x.__dict__)
        return made

    def _cell(self, cell: CellType) -> CellType:
        """The twin of a name that functions share, one for all of them; they may be in it."""
        if id(cell) not in self.twins:
            try:
                real = cell.cell_contents
            except ValueError:  # nothing is in it yet
                return cell
            made = self.twins[id(cell)] = CellType()
            self.kept.append(cell)
            made.cell_contents = self.meaning(real)
        return self.twins[id(cell)]

    def class_(self, kind: type) -> type:
        """The twin of a class of the program, its bases' twins its bases."""
        itself = CellType()

        def member(x: Any) -> Any:
            if type(x) is FunctionType:
                return self.function(x, __class__=itself)
            if isinstance(x, staticmethod | classmethod):
                return type(x)(member(x.__func__))
            if isinstance(x, cached_property):
                return cached_property(member(x.func))
            if isinstance(x, property):
                return property(*(f and member(f) for f in (x.fget, x.fset, x.fdel)))
            try:
                found = self.meaning(x)
            except Uncounted as error:
                return _Refusing(error)
            # What stands for a function in C becomes no method, as that would become none.
            return staticmethod(found) if type(found) is FunctionType else found

        bases = tuple(map(self.meaning, kind.__bases__))
        skipped = {"__dict__", "__weakref__", *_slots(kind)}
        body = {name: member(x) for name, x in vars(kind).items() if name not in skipped}
        made = self.meaning(type(kind))(kind.__name__, bases, body)
        itself.cell_contents = made
        return made

    def object_(self, x: Any) -> Any:
        """An object of one of the program's classes, as one of the class's twin."""
        kind = self.meaning(type(x))
        holds = next((base for base in (dict, list, tuple) if isinstance(x, base)), object)
        try:
            if holds is tuple:
                return tuple.__new__(kind, map(self.meaning, x))
            made = self.twins[id(x)] = holds.__new__(kind)
        except TypeError as error:
            raise Uncounted(f"what a {kind.__name__} holds is not counted") from error
        if holds is dict:
            dict.update(made, {name: self.meaning(part) for name, part in x.items()})
        elif holds is list:
            list.extend(made, map(self.meaning, x))
        slots = (name for base in kind.__mro__ for name in _slots(base) if hasattr(x, name))
        for name in (*slots, *getattr(x, "__dict__", ())):
            object.__setattr__(made, name, self.meaning(getattr(x, name)))
        return made


_CODE = (ModuleType, FunctionType, BuiltinFunctionType, MethodType, np.ufunc, Dispatcher)


class Lines(Program):
    """A program whose functions alone have twins: values and objects are those it has."""

    def _meaning(self, x: Any) -> Any:
        code = isinstance(x, (*_CODE, partial, _CACHED)) or (
            of_numpy(getattr(x, "__module__", None)) and not isinstance(x, _DATA)
        )
        return super()._meaning(x) if code else x

    def _cell(self, cell: CellType) -> CellType:
        try:
            code = type(cell.cell_contents) is FunctionType
        except ValueError:  # nothing is in it yet
            return cell
        return super()._cell(cell) if code else cell


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


class _Refusing:
    """What no array counts as, among the names of a class: whoever asks for it is told why."""

    def __init__(self, error: Uncounted) -> None:
        self.error = error

    def __get__(self, x: Any, owner: Any) -> Any:
        raise self.error


class Own:
    """A module of the program's, or of a package with functions that count, as its twin sees it."""

    def __init__(self, module: ModuleType, program: Program) -> None:
        self.__dict__.update(_module=module, _program=program, __name__=module.__name__)

    def __getattr__(self, name: str) -> Any:
        if name == "__all__" and not hasattr(self._module, name):
            return [name for name in vars(self._module) if not name.startswith("_")]
        names = self._program.names(vars(self._module))
        try:
            return names[name]
        except KeyError:  # a module may find names by a function
            return self._program.meaning(getattr(self._module, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.names(vars(self._module))[name] = value

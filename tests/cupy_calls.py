"""Every call of CuPy that the project makes, as it makes it: run where `cupy` is the stand-in.

    PYTHONPATH=tests/fakes:tests/fakes/cuda:tests:scripts:. python tests/cupy_calls.py > calls.json

Written are each call once: its name, what stood for each argument, what came back. They are those
of every family's passes in each dtype, of tokens generated, of the stages of a visit to a GPU. Also
written: what each function of the stand-in takes, and what numbers it has by CUDA's names.
"""

import inspect
import json
import sys
import threading
from functools import wraps
from types import SimpleNamespace

import cupy
import numpy as np
from families import CASES, read, tiny
from helpers import numbers
from worlds import in_processes

from counting import Counted, Ledger
from minigpt.checkpoint.dtypes import NUMPY
from minigpt.inference.device import DTYPES, place
from minigpt.models.architectures import build

FOUND = {}  # calls, each once: a dictionary keeps the order
INSIDE = threading.local()  # `name` is of the call that runs: the stand-in calls itself too


def kind(x):
    """What an argument is, as far as CuPy looks at it."""
    if isinstance(x, cupy.ndarray):
        return f"{x.dtype}"
    if isinstance(x, np.ndarray):
        return f"host {x.dtype}"
    if isinstance(x, np.generic):
        return f"NumPy's {x.dtype}"
    if isinstance(x, np.dtype) or (isinstance(x, type) and issubclass(x, np.generic)):
        return f"dtype {np.dtype(x)}"
    if isinstance(x, tuple | list):
        return f"({', '.join(sorted(set(map(kind, x))))})"
    if x is None or x is Ellipsis or isinstance(x, bool) or (isinstance(x, str) and len(x) < 20):
        return repr(x)
    return type(x).__name__


def recorded(name, function):
    @wraps(function)
    def call(*args, **options):
        if getattr(INSIDE, "name", None):
            return function(*args, **options)
        said = [kind(x) for x in args], {key: kind(x) for key, x in options.items()}
        INSIDE.name = name
        try:
            result = function(*args, **options)
        finally:
            INSIDE.name = None
        FOUND.setdefault(json.dumps([name, *said, kind(result)]))
        return result

    return call


METHODS = {"__call__", "__getitem__", "__setitem__", "__enter__", "__exit__"}
OWN = {"MemoryHook", "MemoryPointer", "PooledMemory", "PinnedMemory", "PINNED", "HOOKS", "Counter"}


def members(namespace, name):
    """(owner, key, dotted name, function) of all that the stand-in offers, classes and methods."""
    for key, value in list(vars(namespace).items()):
        dotted = f"{name}.{key}"
        if key in OWN or (key.startswith("_") and key not in METHODS):
            continue
        if isinstance(value, type) and value.__module__.startswith("cupy"):
            if "__init__" in vars(value) and key not in ("ndarray", "Generator", "Function"):
                yield value, "__init__", dotted, value.__init__
            yield from members(value, dotted)
        elif isinstance(value, SimpleNamespace):
            yield from members(value, dotted)
        elif inspect.isroutine(value) or isinstance(value, staticmethod):
            yield namespace, key, dotted, value


def offered():
    """The same of the whole stand-in: functions, methods, and what NumPy's protocols lead to."""
    tables = [(table, key) for table in (cupy.UFUNCS, cupy.FUNCTIONS) for key in table]
    for table, key in tables:
        yield table, key, f"cupy.{key}", table[key]
    of_tables = {f"cupy.{key}" for _, key in tables}
    for found in [*members(cupy.cuda, "cupy.cuda"), *members(cupy, "cupy")]:
        if found[2] not in of_tables and not found[2].startswith("cupy.environ"):
            yield found


def wrap():
    """Records the whole stand-in, before anything of ours takes a function out of it."""
    for owner, key, dotted, function in list(offered()):
        if isinstance(function, staticmethod):
            setattr(owner, key, staticmethod(recorded(dotted, function.__func__)))
        elif isinstance(owner, dict):
            owner[key] = recorded(dotted, function)
            if getattr(cupy, key, None) is function:
                setattr(cupy, key, owner[key])
        else:
            setattr(owner, key, recorded(dotted, function))


def parameters():
    """By name what each function of the stand-in takes, in order; those of any number left out."""
    found = {}
    for _, _, dotted, function in offered():
        try:
            taken = inspect.signature(function).parameters.values()
        except ValueError:  # one of Python's own
            continue
        if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in taken):
            found[dotted] = [p.name for p in taken]
    return found


def constants():
    """Numbers that the stand-in has by CUDA's names."""
    libraries = ("cublas", "runtime", "nccl")
    spaces = {f"cupy.cuda.{name}": getattr(cupy.cuda, name) for name in libraries}
    return {
        f"{name}.{key}": value
        for name, space in spaces.items()
        for key, value in vars(space).items()
        if isinstance(value, int)
    }


def passes():
    """Every family, and what it multiplies, in every dtype."""
    for dtype in DTYPES:
        device = place("cuda", dtype)
        for name in CASES:
            config = read(name.split(",")[0], tiny(name))
            make, ledger = numbers(0, config.vocab_size), Ledger()
            weights = {}
            for key, shape in config.shapes().items():
                matrix = config.layout(key, len(shape)) or key.endswith("kv_b_proj.weight")
                values = make(shape, NUMPY[dtype if matrix else "float32"])
                weights[key] = Counted(device.put(values, bool(matrix)), ledger)
            model = build(config, weights)
            cache = model.new_cache(1, 6)
            for length in (3, 1, 2):
                model(make((1, length), int), cache, "all")


def generated():
    """Tokens of the shipped model, with the allocator as a witness."""
    from counting import observing
    from minigpt import generate, load
    from minigpt.inference.device import witness

    lm = load(device="cuda", dtype="float16")
    with witness("cuda") as pool, observing(lm.ledger, pool):
        list(generate(lm, "To be", max_new_tokens=3, seed=1))
        pool.now()


def in_parts():
    """Tokens of the shipped model, on two GPUs."""
    from minigpt import generate, load

    def run(world):
        list(generate(load(device="cuda", dtype="float16", ring=world), "To", max_new_tokens=2))

    cupy.cuda.MACHINE["devices"] = 2
    in_processes(2, run)


def stages():
    """What a visit runs in this process."""
    from importlib import import_module

    from gpu_check import TINY
    from gpu_visit.counters import parts, profiled
    from gpu_visit.stages import STAGES
    from gpu_visit.visit import Visit

    for name, stage in STAGES.items():
        if name not in ("compiled", "counters", "sanitizer"):
            module = import_module(f"gpu_visit.{stage.module}")
            list(getattr(module, name)(Visit(TINY, dry=True, peers=False)))
    visit = Visit(TINY, dry=True)
    for part in parts(visit):
        profiled(visit, part)


if __name__ == "__main__":
    said = {"parameters": parameters(), "constants": constants()}
    wrap()
    passes()
    generated()
    stages()
    in_parts()
    said["calls"] = [json.loads(call) for call in FOUND]
    json.dump(said, sys.stdout, indent=1)

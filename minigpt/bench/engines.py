"""What can be measured: this program in its ways of running, and the peers, at their precisions."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from itertools import takewhile
from typing import NamedTuple

from minigpt.errors import InputError, did_you_mean

Generate = Callable[[list[list[int]], int, Callable[[], None]], list[list[int]]]
"""(prompts, new, mark) -> the `new` most likely tokens of each prompt.

Prompts have one length; a step gives a token of each, and `mark()` is called after it. An engine
is a function (folder, dtype, threads, context, batch) -> Generate: it loads the checkpoint for at
most `batch` sequences together, each of `context` tokens.
"""


class Precision(NamedTuple):
    """Bytes of an element of a weight, and the fewest that anyone keeps of a key or value."""

    weight: int
    cache: int


PRECISIONS = {  # by dtype; engines of one precision are compared
    "float32": Precision(4, 4),
    "bfloat16": Precision(2, 2),
    "float16": Precision(2, 2),
    "int8": Precision(1, 2),
}


class Engine(NamedTuple):
    """Something that runs the model.

    Attributes:
        dtypes: of weights, that it has.
        packages: to import and, from the same index, to install; none for this program itself.
        load: module:function, see `minigpt.bench.worker`.
        environment: what is set in its process.
    """

    name: str
    dtypes: tuple[str, ...]
    load: str
    packages: dict[str, str] = {}  # noqa: RUF012
    environment: dict[str, str] = {}  # noqa: RUF012

    @property
    def installed(self) -> bool:
        return all(find_spec(package) for package in self.packages)

    @property
    def versions(self) -> str:
        """Its packages and their versions."""
        return ", ".join(f"{name} {version(name)}" for name in self.packages.values())


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("minigpt", tuple(PRECISIONS), "minigpt.bench.own:bare"),
        Engine("minigpt-counted", tuple(PRECISIONS), "minigpt.bench.own:counted"),
        Engine("numpy", ("float32",), "minigpt.bench.own:bare", environment={"MINIGPT_FAST": "0"}),
        Engine(
            "transformers",
            ("float32", "bfloat16"),
            "minigpt.bench.peers:transformers",
            {"torch": "torch", "transformers": "transformers"},
        ),
        Engine(
            "llama.cpp",
            ("float32", "bfloat16", "int8"),
            "minigpt.bench.peers:llama_cpp",
            {"llama_cpp": "llama-cpp-python", "gguf": "gguf"},
        ),
        Engine(
            "ctranslate2",
            ("float32", "int8"),
            "minigpt.bench.peers:ctranslate2",
            {"ctranslate2": "ctranslate2", "transformers": "transformers", "torch": "torch"},
        ),
    )
}


def beside_peers() -> list[str]:
    """This program, and the peers that are installed."""
    return ["minigpt", *(e.name for e in ENGINES.values() if e.packages and e.installed)]


class Entry(NamedTuple):
    """An engine at one precision: what a row of a benchmark is about."""

    engine: str
    dtype: str


def entries(engines: Sequence[str], dtypes: Sequence[str]) -> list[Entry]:
    """The engines asked for at the precisions asked for, in so far as they have them.

    Args:
        engines: names; without any, all that are installed.

    Raises:
        InputError: one is unknown or not installed, or none of them has any of the precisions.
    """
    for dtype in dtypes:
        if dtype not in PRECISIONS:
            raise InputError(f"unknown dtype {dtype!r}: {', '.join(PRECISIONS)}")
    for name in engines:
        if name not in ENGINES:
            raise InputError(
                f"unknown engine {name!r}: {', '.join(ENGINES)}{did_you_mean(name, ENGINES)}"
            )
        if not ENGINES[name].installed:
            needed = " ".join(ENGINES[name].packages.values())
            raise InputError(f"{name} is not installed: pip install {needed}")
    chosen = engines or [name for name, engine in ENGINES.items() if engine.installed]
    found = [Entry(n, dtype) for dtype in dtypes for n in chosen if dtype in ENGINES[n].dtypes]
    if not found:
        raise InputError(f"none of {', '.join(chosen)} runs in {' or '.join(dtypes)}")
    return found


def agreeing(sequences: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> int:
    """How many tokens are those of others of the same shape, up to where each sequence parts."""
    each = (zip(*both, strict=True) for both in zip(sequences, others, strict=True))
    return sum(1 for pairs in each for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

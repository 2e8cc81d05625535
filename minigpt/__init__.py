"""GPT-2 in plain NumPy that counts itself while it runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.errors import InputError
    from minigpt.generation import Step, generate
    from minigpt.stepping.capture import run_with_cache, steps
    from minigpt.stepping.hook import step
    from minigpt.weights import LanguageModel, load

    __version__: str

__all__ = [
    "InputError",
    "LanguageModel",
    "Step",
    "__version__",
    "generate",
    "load",
    "run_with_cache",
    "step",
    "steps",
]

_ROOMS = {
    "InputError": "errors",
    "LanguageModel": "weights",
    "Step": "generation",
    "generate": "generation",
    "load": "weights",
    "run_with_cache": "stepping.capture",
    "step": "stepping.hook",
    "steps": "stepping.capture",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for: `minigpt --help` needs none of them."""
    if name == "__version__":
        return _version()
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"minigpt.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    """What is public, imported yet or not."""
    return sorted(__all__)


def _version() -> str:
    """The version that was installed, or that of a clone which is run as it lies there."""
    import tomllib
    from importlib.metadata import PackageNotFoundError, version
    from pathlib import Path

    try:
        return version("minigpt-counting")
    except PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])

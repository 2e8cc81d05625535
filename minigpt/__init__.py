"""GPT-2 in plain NumPy that counts itself while it runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.errors import InputError
    from minigpt.inference.generate import Step, generate
    from minigpt.inference.load import LanguageModel, load
    from minigpt.stepping.breakpoint import step
    from minigpt.stepping.capture import run_with_cache, steps
    from minigpt.stepping.intervene import intervene

    __version__: str

__all__ = [
    "InputError",
    "LanguageModel",
    "Step",
    "__version__",
    "generate",
    "intervene",
    "load",
    "run_with_cache",
    "step",
    "steps",
]

_MODULES = {
    "InputError": "errors",
    "LanguageModel": "inference.load",
    "Step": "inference.generate",
    "generate": "inference.generate",
    "intervene": "stepping.intervene",
    "load": "inference.load",
    "run_with_cache": "stepping.capture",
    "step": "stepping.breakpoint",
    "steps": "stepping.capture",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is asked for: `minigpt --help` needs none of them."""
    if name == "__version__":
        from minigpt.version import version

        return version()
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"minigpt.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """What is public, imported yet or not."""
    return sorted(__all__)

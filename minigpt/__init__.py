"""GPT-2 in plain NumPy that counts itself while it runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigpt.errors import InputError
    from minigpt.generation import Step, generate
    from minigpt.stepping.capture import run_with_cache, steps
    from minigpt.stepping.hook import step
    from minigpt.weights import LanguageModel, load

__all__ = [
    "InputError",
    "LanguageModel",
    "Step",
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
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"minigpt.{_ROOMS[name]}"), name)

"""Every architecture by the name that a config.json gives it, and every model that has a name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.deepseek import Deepseek
from minigpt.models.deepseek_config import DEEPSEEK_SIZES, DeepseekConfig, deepseek_config
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config, gpt2_config
from minigpt.models.llama import Llama
from minigpt.models.llama_config import LLAMA_SIZES, LlamaConfig, llama_config

Model = GPT2 | Llama | Deepseek

PRESETS: dict[str, Config] = {**GPT2_SIZES, **LLAMA_SIZES, **DEEPSEEK_SIZES}

_MODELS: dict[type, Callable[..., Model]] = {
    GPT2Config: GPT2,
    LlamaConfig: Llama,
    DeepseekConfig: Deepseek,
}
_READERS: dict[str, Callable[[dict[str, Any], Path], Config]] = {
    "gpt2": gpt2_config,
    "llama": llama_config,
    "deepseek_v3": deepseek_config,
}


def build(config: Config, weights: Any, **options: Any) -> Model:
    """The model of a configuration; options are those of its class."""
    return _MODELS[type(config)](config, weights, **options)


def read(path: Path) -> Config:
    """The configuration in a config.json of any architecture.

    Raises:
        InputError: it is unreadable, of an unknown architecture, or has values that cannot be.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from None
    kind = values.get("model_type") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in _READERS:
        known = ", ".join(_READERS)
        raise InputError(f"{path}: model_type is {kind!r}; known architectures are {known}")
    return _READERS[kind](values, path)

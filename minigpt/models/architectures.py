"""Every architecture by the name that a config.json gives it, and every model that has a name."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError
from minigpt.models.config import Config, Values
from minigpt.models.deepseek import Deepseek
from minigpt.models.deepseek_config import DEEPSEEK_SIZES, DeepseekConfig, deepseek_config
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config, gpt2_config
from minigpt.models.llama import Llama
from minigpt.models.llama_config import LLAMA_SIZES, LlamaConfig, llama_config
from minigpt.models.model import Model


class Architecture(NamedTuple):
    """A family of models: whoever adds one writes a reader, and a row of `ARCHITECTURES`.

    Attributes:
        model_type: its name in a config.json.
        config: the class of its configurations.
        read: the reader of its config.json.
        model: the class of its models, of a configuration, weights and options.
        presets: configurations of its well-known models, by their names here.
    """

    model_type: str
    config: type[Config]
    read: Callable[[Values], Config]
    model: type[Any]
    presets: Mapping[str, Config]


ARCHITECTURES = (
    Architecture("gpt2", GPT2Config, gpt2_config, GPT2, GPT2_SIZES),
    Architecture("llama", LlamaConfig, llama_config, Llama, LLAMA_SIZES),
    Architecture("deepseek_v3", DeepseekConfig, deepseek_config, Deepseek, DEEPSEEK_SIZES),
)
PRESETS = {name: config for row in ARCHITECTURES for name, config in row.presets.items()}
_MODELS = {row.config: row.model for row in ARCHITECTURES}
_BY_TYPE = {row.model_type: row for row in ARCHITECTURES}


def build(config: Config, weights: Any, **options: Any) -> Model:
    """The model of a configuration; options are those of its class."""
    model: Model = _MODELS[type(config)](config, weights, **options)
    return model


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
    if not isinstance(kind, str) or kind not in _BY_TYPE:
        known = ", ".join(_BY_TYPE)
        raise InputError(f"{path}: model_type is {kind!r}; known architectures are {known}")
    return _BY_TYPE[kind].read(Values(values, path))

"""From the name of a model to its configuration, for what needs no weights."""

import os
import re
from pathlib import Path

from minigpt.checkpoint.hub import SHIPPED, find_config
from minigpt.checks import NAME, checked
from minigpt.errors import InputError, did_you_mean
from minigpt.models.architectures import PRESETS, read
from minigpt.models.config import Config

NAMES = (*PRESETS, SHIPPED)
SOME = ("gpt2-xl", "llama-3.1-8b", "qwen3-8b", "gemma-3-27b", "deepseek-r1", SHIPPED)


def resolve(model: str) -> Config:
    """The configuration of a model by any name: of a preset, or of what `generate` takes.

    Args:
        model: a preset ("llama-3.1-8b"), "shakespeare" (comes with the package), a config.json, a
            folder that has one, a .safetensors file with one beside it, or a hub name, of which
            only the config.json is fetched.

    Raises:
        InputError: there is none, or it is of an unknown architecture.
    """
    checked("model", model, NAME)
    if model in PRESETS:
        return PRESETS[model]
    path = os.path.expanduser(model)
    if model.endswith(".json"):
        return read(Path(path))
    if os.path.exists(path) or not re.fullmatch(r"\w[\w.-]*", model) or model == SHIPPED:
        return read(find_config(model))
    near = did_you_mean(model, NAMES)
    unknown = (
        f"unknown model {model!r}: it is one of {len(NAMES)} names ({', '.join(SOME)}, …, all in "
        "docs/models.md), a config.json, a folder that has one, or a name on the hub"
    )
    if model.casefold() in map(str.casefold, NAMES):  # no need to ask the hub
        raise InputError(unknown + near)
    try:
        config = find_config(model)
    except InputError as error:
        raise InputError(unknown + (near or f" ({error})")) from None
    return read(config)

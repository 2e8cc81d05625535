"""From the name of a model to its configuration, for what needs no weights."""

import os
import re
from pathlib import Path

from minigpt.checkpoint.hub import SHIPPED, find_config
from minigpt.checks import NAME, checked, shown
from minigpt.errors import InputError, did_you_mean
from minigpt.models.architectures import PRESETS, read
from minigpt.models.config import Config

NAMES = (*PRESETS, SHIPPED)
SOME = ("gpt2-xl", "llama-3.1-8b", "deepseek-r1")


def is_config(model: str) -> bool:
    """Whether a model is named by its config.json, or a file like one."""
    return model.lower().endswith(".json")


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
    if is_config(model):
        return read(Path(path))
    if os.path.exists(path) or not re.fullmatch(r"\w[\w.-]*", model) or model == SHIPPED:
        return read(find_config(model))
    near = did_you_mean(model, NAMES)
    unknown = (
        f"unknown model {shown(model)}: it is one of {len(NAMES)} names ({', '.join(SOME)}, …, in "
        "docs/models.md), a config.json, a folder or on the hub"
    )
    if re.search(r"\.[A-Za-z]\w+$", model):  # the name of a file, of no preset
        raise InputError(f"there is no file {model}" + near)
    if model.casefold() in map(str.casefold, NAMES):  # no need to ask the hub
        raise InputError(unknown + near)
    try:
        config = find_config(model)
    except InputError as error:
        raise InputError(unknown + (near or f" ({error})")) from None
    return read(config)

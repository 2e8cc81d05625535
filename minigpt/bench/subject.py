"""The checkpoint that every engine of a benchmark runs."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from minigpt.checkpoint.dtypes import NUMPY
from minigpt.checkpoint.files import CONFIG
from minigpt.checkpoint.hub import SHIPPED, find
from minigpt.checkpoint.resolve import NAMES
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.commands.terminal import progress
from minigpt.errors import InputError, did_you_mean
from minigpt.models.architectures import PRESETS, read
from minigpt.models.config import Config
from minigpt.models.gpt2_config import GPT2Config
from minigpt.storage.private import PrivateFolder, unusable


class Subject(NamedTuple):
    """A model to measure, in Hugging Face layout."""

    name: str
    folder: Path
    config: Config


def subject(model: str) -> Subject:
    """The checkpoint of a name.

    Args:
        model: a preset, "gpt2" or "llama-3.2-1b": random weights at its true size, made once and
            kept; or what comes with the package, a folder, or owner/name on the hub.

    Raises:
        InputError: there is no such model, or its checkpoint cannot be written.
    """
    if model in PRESETS:
        return Subject(model, _random(model, PRESETS[model]), PRESETS[model])
    if model != SHIPPED and "/" not in model and not os.path.exists(model):
        names = ", ".join(NAMES)
        raise InputError(
            f"unknown model {model!r}: {names}, a folder, or owner/name on the hub"
            + did_you_mean(model, NAMES)
        )
    path = find(model).config
    return Subject(model, path.parent.absolute(), read(path))


def _random(model: str, config: Config) -> Path:
    """The folder of a preset with random weights, made if there is none.

    They are stored as those that are published: GPT-2's in float32, others in bfloat16.

    Raises:
        InputError: it cannot be written, there is no room, or others may write there.
    """
    dtype = "float32" if isinstance(config, GPT2Config) else "bfloat16"
    try:
        with PrivateFolder("random") as kept:
            folder = kept.path / model
            if not (folder / CONFIG).is_file():
                needed = config.parameters * NUMPY[dtype].itemsize
                if needed > (free := shutil.disk_usage(kept.path).free):
                    raise InputError(
                        f"random weights of {model} take {needed:,} bytes, and {free:,} are free "
                        f"in {kept.path}: a smaller model"
                    )
                with progress(f"making random weights of {model}") as report:
                    write_checkpoint(config, folder, dtype, progress=report)
            return folder
    except OSError as error:
        raise InputError(unusable(error)) from None

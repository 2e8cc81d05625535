"""The checkpoint that every engine of a benchmark runs."""

from pathlib import Path
from typing import NamedTuple

from minigpt.checkpoint.hub import SHIPPED, find
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.commands.terminal import progress
from minigpt.errors import InputError, did_you_mean
from minigpt.models.architectures import read
from minigpt.models.config import Config
from minigpt.models.gpt2_config import GPT2_SIZES
from minigpt.storage.private import PrivateFolder, unusable


class Subject(NamedTuple):
    """A model to measure, in Hugging Face layout."""

    name: str
    folder: Path
    config: Config


def subject(model: str) -> Subject:
    """The checkpoint of a name.

    Args:
        model: a GPT-2 size, "gpt2" to "gpt2-xl": random weights at its true size, made once and
            kept; or what comes with the package, a folder, or owner/name on the hub.

    Raises:
        InputError: there is no such model, or its checkpoint cannot be written.
    """
    if model in GPT2_SIZES:
        return Subject(model, _random(model), GPT2_SIZES[model])
    if model != SHIPPED and "/" not in model and not Path(model).exists():
        sizes = ", ".join(GPT2_SIZES)
        raise InputError(
            f"unknown model {model!r}: {sizes}, {SHIPPED}, a folder, or owner/name on the hub"
            + did_you_mean(model, (*GPT2_SIZES, SHIPPED))
        )
    path = find(model).config
    return Subject(model, path.parent.absolute(), read(path))


def _random(model: str) -> Path:
    """The folder of a GPT-2 with random weights, made if there is none.

    Raises:
        InputError: it cannot be written, or others may write there.
    """
    try:
        with PrivateFolder("random") as kept:
            folder = kept.path / model
            if not folder.is_dir():
                with progress(f"making random weights of {model}") as report:
                    write_checkpoint(GPT2_SIZES[model], folder, progress=report)
            return folder
    except OSError as error:
        raise InputError(unusable(error)) from None

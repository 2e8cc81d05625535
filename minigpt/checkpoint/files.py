"""The files that a model is, wherever they are."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from minigpt.errors import InputError
from minigpt.models.values import Values
from minigpt.storage.files import beside, reason, replace
from minigpt.storage.reading import document

CONFIG = "config.json"
TOKENIZER, VOCABULARY, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, ADAPTER, PIECES = "pytorch_model.bin", "adapter_config.json", "tokenizer.model"  # not read
BESIDE = (  # what a model may have, and says more of its tokens; one without them is whole
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja"),
)
READ = {CONFIG, TOKENIZER, VOCABULARY, MERGES, SINGLE, INDEX, *BESIDE}

_SWITCHES = ("add_prefix_space", "legacy", "add_bos_token", "add_eos_token")


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        tokenizer: its tokenizer.json, or where it has none its vocab.json.
        tensors: by name: `SINGLE`, whatever it is called here, or those that an index names.
        merges: the merges.txt that goes with a vocab.json.
        beside: those of `BESIDE` that it has, by name.
    """

    name: str
    config: Path
    tokenizer: Path
    tensors: Mapping[str, Path]
    merges: Path | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, Path]:
        """All of them by name, with the index that names those of the tensors, if one does."""
        index = [] if SINGLE in self.tensors else [self.config.parent / INDEX]
        more = [*filter(None, [self.merges]), *index]
        named = {file.name: file for file in (self.config, self.tokenizer, *more)}
        return {**named, **self.tensors, **self.beside}

    def values(self, name: str) -> Values:
        """The values in its config.json, or in a JSON file of `BESIDE`: none if it has no such.

        Raises:
            InputError: it is no JSON object.
        """
        path = {self.config.name: self.config, **self.beside}.get(name)
        if path is None:
            return Values({}, f"{self.name} has no {name}", dict.fromkeys(_SWITCHES))
        try:
            given = document(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as JSON: {reason(error)}") from None
        if not isinstance(given, dict):
            raise InputError(f"{path} is no JSON object: get it again")
        return Values(given, path, dict.fromkeys(_SWITCHES))


def check_own(folder: Path, names: Collection[str]) -> None:
    """Checks that no other file in `folder` would be read with those of a model that go there.

    Of a model in one file no index is read, and beside a tokenizer.json no vocab.json.

    Args:
        names: of the model's own files.

    Raises:
        InputError: there is one.
        OSError: the folder cannot be read.
    """
    unread = {*([INDEX] if SINGLE in names else [])}
    unread |= {*([VOCABULARY, MERGES] if TOKENIZER in names else [])}
    there = os.listdir(folder) if folder.is_dir() else []
    for name in sorted(READ.intersection(there) - unread - {*names}):
        raise InputError(
            f"{folder / name} is of another model, and would be read with this one: remove it, or "
            "choose another folder"
        )


@contextmanager
def filled(folder: Path, names: Collection[str]) -> Iterator[Path]:
    """Yields a folder to write the files of a model to: they go into `folder` at the end.

    Files of the same names there are replaced. If the block fails, `folder` is as it was; if the
    process is killed while files are moved, it has no config.json, and so is no model.

    Args:
        names: of the files.

    Raises:
        InputError: see `check_own`.
        OSError: a folder cannot be written, or there is no room.
    """
    with suppress(FileExistsError):  # where it is no folder, the next lines say so
        folder.parent.mkdir(parents=True)
    check_own(folder, names)
    with beside(folder / CONFIG if folder.is_dir() else folder) as part:
        yield part
        folder.mkdir(exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        for file in sorted(part.iterdir(), key=lambda file: file.name == CONFIG):
            replace(file, folder / file.name)

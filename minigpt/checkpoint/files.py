"""The files that a model is, wherever they are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from minigpt.errors import InputError
from minigpt.models.values import Values
from minigpt.storage.files import reason
from minigpt.storage.reading import document

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, ADAPTER, PIECES = "pytorch_model.bin", "adapter_config.json", "tokenizer.model"  # not read
BESIDE = (  # what a model may have, and says more of its tokens; one without them is whole
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.jinja"),
)

_SWITCHES = ("add_prefix_space", "legacy", "add_bos_token", "add_eos_token")


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model.

    Attributes:
        tokenizer: its tokenizer.json, or where it has none its vocab.json.
        merges: the merges.txt that goes with a vocab.json.
        beside: those of `BESIDE` that it has, by name.
    """

    name: str
    config: Path
    tokenizer: Path
    tensors: tuple[Path, ...]
    merges: Path | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, with the index that names those of the tensors, if one does."""
        index = self.config.parent / INDEX
        indexed = self.tensors[0].name != SINGLE and index.is_file()
        more = [*self.beside.values(), *filter(None, [self.merges]), *([index] if indexed else [])]
        return (self.config, self.tokenizer, *self.tensors, *more)

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

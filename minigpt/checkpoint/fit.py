"""From the tensors of a checkpoint to those of a model: their names, and what is no weight."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from minigpt.checkpoint.quantised import Quantised, made_whole, method, refusal
from minigpt.checkpoint.tensors import FLOATS, Entry
from minigpt.errors import InputError
from minigpt.models.config import Config, Shapes

# What files hold beside weights. A key of the model's own is a weight whatever it is called:
# `attention.bias` is a mask only where no layer has a bias of that name.
_NO_WEIGHT = re.compile(
    r"""(.+\.)?(attn|attention)\.(masked_)?bias  # a causal mask, the number it fills in
    | (.+\.)?rotary_emb(_\w+)?\.((original_)?inv_freq|(cos|sin)_cached)
    | (.+\.)?position_ids
    | (.+\.)?mtp(_layers)?\..+  # layers that guess the tokens after the next
    | (v_head|value_head|score|summary|multiple_choice_head)\..+  # of rewards, of classes
    """,
    re.VERBOSE,
)
_LAYER = re.compile(r"(?:.+\.)?layers\.(\d{1,9})\.(.+)")
_AHEAD = re.compile(r"(eh_proj|enorm|hnorm|shared_head\.\w+)\.weight")  # of such layers alone

_WRAPPED = {  # what a key shows of how a model was saved, and the way out
    r"base_model\.model\..*|.*\.(lora_\w+|base_layer)\..*": (
        "an adapter (LoRA) that was not merged: merge it first, then save"
    ),
    r"(.*\.)?module\..*": "saved inside DataParallel: save model.module in place of model",
    r"(.*\.)?_orig_mod\..*": "saved compiled: save model._orig_mod in place of model",
}

E = TypeVar("E", bound=Entry)  # a tensor, or what a header says of one


def fit(
    config: Config, found: Iterable[tuple[str, E]], origin: Path, given: Mapping[str, Any] = {}
) -> tuple[Config, dict[str, E]]:
    """The configuration with its head tied or separate, as stored, and exactly its tensors.

    Keys may lack the prefix of the model's own, or have `model.` or `transformer.` before them.
    Of a tied pair one may be stored, under either name. What is known to be no weight is left out.

    Args:
        found: tensors of the checkpoint by their keys.
        origin: the config.json, for errors.
        given: the values of that. They tell of layers behind the model's own, which guess tokens
            ahead and are no part of it, and of how weights are quantised.

    Raises:
        Quantised: weights are quantised, and not in blocks that are made whole.
        InputError: a tensor is missing, unexpected, stored twice, of another shape or dtype.
    """
    names, found = _Names.of(config), made_whole(found, given)
    if how := method(given, found):
        raise Quantised(f"{origin}: {refusal(how)}")
    ahead = given.get("num_nextn_predict_layers")
    ahead = ahead if isinstance(ahead, int) else 0
    layers = range(config.layers, config.layers + ahead) if ahead else _ahead(config, found)
    stored: dict[str, E] = {}
    for key, tensor in found:
        name = names.find(key)
        layer = _LAYER.fullmatch(key)
        if name is None and (_NO_WEIGHT.fullmatch(key) or (layer and int(layer[1]) in layers)):
            continue
        if name is None:
            raise _unexpected(key, tensor, origin)
        if tensor.code not in FLOATS:
            known = ", ".join(FLOATS)
            raise InputError(f"{tensor.file}: {key} is stored as {tensor.code}; known are {known}")
        if name in stored:
            first = stored[name].file
            raise InputError(f"{tensor.file}: {name} is stored twice, first in {first}")
        stored[name] = tensor
    config = _tie(config, names, stored)
    for key, shape in config.shapes().items():
        if key not in stored:
            raise InputError(f"the checkpoint has no tensor {key}, which {origin} asks for")
        if stored[key].shape != shape:
            what = f"{key} has shape {stored[key].shape}, but {origin} makes it {shape}"
            raise InputError(f"{stored[key].file}: {what}")
    return config, stored


class _Names(NamedTuple):
    """How a model calls its tensors.

    Attributes:
        shapes: by key, of the model with a head of its own.
        head: the key of that.
        embedding: the key of the table that a tied head is.
    """

    shapes: Shapes
    head: str
    embedding: str

    @classmethod
    def of(cls, config: Config) -> "_Names":
        shapes = config.tied(False).shapes()
        [head] = shapes.keys() - config.tied(True).shapes().keys()
        table = (key for key, shape in shapes.items() if shape == shapes[head] and key != head)
        return cls(shapes, head, next(table))

    def find(self, key: str) -> str | None:
        """The model's name of what a file calls `key`, or None."""
        own = self.embedding.split(".")[:-2]  # "model.embed_tokens.weight": ["model"]
        ends = {".".join([*own[i:], ""]) for i in range(len(own) + 1)}
        for prefix in sorted({"model.", "transformer."} | ends, key=len, reverse=True):
            bare = key.removeprefix(prefix)
            for name in (".".join([*own, bare]), bare) if key.startswith(prefix) else ():
                if name in self.shapes:
                    return name
        return None


def _ahead(config: Config, found: list[tuple[str, E]]) -> set[int]:
    """The layers behind the model's own that show by their names that they guess ahead."""
    layers = (_LAYER.fullmatch(key) for key, _ in found)
    guessing = {int(layer[1]) for layer in layers if layer and _AHEAD.fullmatch(layer[2])}
    return {layer for layer in guessing if layer >= config.layers}


def _unexpected(key: str, tensor: Entry, origin: Path) -> InputError:
    for pattern, what in _WRAPPED.items():
        if re.fullmatch(pattern, key):
            return InputError(f"{tensor.file}: {key} is {what}")
    return InputError(f"{tensor.file}: unexpected tensor {key}, not part of {origin}")


def _tie(config: Config, names: _Names, stored: dict[str, E]) -> Config:
    """The configuration with its head as stored; a tied pair leaves the embedding alone."""
    head, embedding = stored.get(names.head), stored.get(names.embedding)
    if head and embedding and (same := head.same(embedding)) is not None:
        config = config.tied(same)
    if head and config.tie_word_embeddings:
        stored[names.embedding] = embedding or head
        del stored[names.head]
    return config

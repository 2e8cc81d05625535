"""Every architecture by the name that a config.json gives it, and every model that has a name."""

from collections import UserDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.models.config import Config
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.description import Tensors
from minigpt.models.experts import Experts
from minigpt.models.families import deepseek, experts, joined, linear, llama, windows
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2_SIZES, GPT2Config, gpt2_config
from minigpt.models.latent import LatentAttention
from minigpt.models.model import Model
from minigpt.models.routing import Assumption, expected
from minigpt.storage.files import reason
from minigpt.storage.reading import document

FAMILIES = (
    *(llama.llama, llama.mistral, llama.qwen2, llama.qwen3, llama.smollm3, llama.granite),
    *(experts.mixtral, experts.qwen2_moe, experts.qwen3_moe, experts.olmoe),
    *(windows.gemma2, windows.gemma3_text, windows.gpt_oss, windows.olmo2, windows.olmo3),
    *(windows.cohere2, joined.phi3, joined.glm4, joined.gpt_neox, joined.falcon),
    *(joined.stablelm, joined.starcoder2, joined.opt),
    *(deepseek.deepseek_v2, deepseek.deepseek_v3, deepseek.kimi_k2),
    linear.qwen3_next,
)
Reader = Callable[[Mapping[str, Any], Any], Config]  # values of a config.json, its file
READERS: dict[str, Reader] = {"gpt2": gpt2_config, **{f.model_type: f.read for f in FAMILIES}}
"""The reader of a config.json, by its model type."""

TEXT_OF = {"gemma3": "gemma3_text", "llava": "llama"}
"""Model types whose text part, which stands alone, is of another type where they do not say it."""

# Sizes that the text part of a LLaVA leaves out where they are those of the first 7B; a model's own
# config.json says them.
_7B = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32}
TEXT_SIZES: dict[str, dict[str, Any]] = {
    "llama": {**_7B, "intermediate_size": 11008, "max_position_embeddings": 2048},
    "mistral": {**_7B, "intermediate_size": 14336, "max_position_embeddings": 131072},
}

_STATE, _ENCODER = "a state-space mixer, which no layer here computes", "an encoder and a decoder"
_NO_TEXT = "no part that continues a text"
REFUSED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "bamba"), _STATE),
    **dict.fromkeys(("zamba", "zamba2", "falcon_h1", "nemotron_h", "granitemoehybrid"), _STATE),
    **dict.fromkeys(("kimi_linear", "minimax"), "linear attention of another kind in some layers"),
    **dict.fromkeys(("rwkv", "recurrent_gemma", "xlstm"), "a recurrence in the place of attention"),
    **dict.fromkeys(("t5", "mt5", "bart", "mbart", "whisper", "marian", "pegasus"), _ENCODER),
    **dict.fromkeys(("clip", "siglip", "vit", "dinov2"), _NO_TEXT),
    **dict.fromkeys(
        ("bert", "roberta", "distilbert", "xlm-roberta"),
        "an encoder alone, no part that continues a text",
    ),
}
"""What model types are that are known and not computed."""


def build(
    config: Config,
    weights: Mapping[str, Any],
    cache: str = "compressed",
    assume: Assumption = expected,
) -> Model:
    """The model of a configuration.

    Args:
        weights: the tensors of `config.shapes()` by key, as any kind of array.
        cache: what one of latent attention keeps, "compressed" or "expanded", see `latent`.
        assume: which experts are met where arrays have no data, see `routing`.
    """

    if isinstance(config, GPT2Config):
        return GPT2(config, weights)
    assert isinstance(config, DecoderConfig)
    model: Model = config.decoder(Tensors.of(weights))
    model.config = config
    for part in model.modules():
        if isinstance(part, LatentAttention):
            part.compressed = cache == "compressed"
        elif isinstance(part, Experts):
            part.assume = assume
    return model


def read(path: Path) -> Config:
    """The configuration in a config.json of any architecture.

    Raises:
        InputError: it is unreadable, of an unknown architecture, or has values that cannot be.
    """
    try:
        values = document(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {reason(error)}") from None
    return configuration(values, path)


def configuration(values: Any, path: Path) -> Config:
    """The configuration that the values of a config.json are.

    Args:
        path: the file that they are from, for errors.

    Raises:
        InputError: they are of an unknown architecture, or cannot be.
    """
    if not isinstance(values, dict):
        raise InputError(f"{path} is no JSON object: get it again")
    kind = values.get("model_type")
    if not isinstance(kind, str):
        raise InputError(f"{path}: model_type is {shown(kind)}, not the name of an architecture")
    part = values.get("text_config")
    if kind not in READERS and isinstance(part, dict):
        return _text_part(kind, part, path)
    if kind in REFUSED:
        raise InputError(f"{path}: model_type {kind!r} is not computed: it has {REFUSED[kind]}")
    if kind not in READERS:
        known = ", ".join(READERS)
        raise InputError(f"{path}: model_type is {shown(kind)}; known architectures are {known}")
    return READERS[kind](values, path)


def _text_part(whole: str, text: dict[str, Any], path: Path) -> Config:
    """The configuration of the text part of a model that also sees."""
    kind = text.get("model_type", TEXT_OF.get(whole))
    if not isinstance(kind, str) or kind not in READERS:
        what = f"the text part of {shown(whole)} is of {shown(kind)}"
        raise InputError(f"{path}: {what}; known architectures are {', '.join(READERS)}")
    found = READERS[kind]({**TEXT_SIZES.get(kind, {}), **text, "model_type": kind}, path)
    more = f"what is beside the text part of a {whole}"
    return replace(found, uncomputed=(*found.uncomputed, more))


class Presets(UserDict[str, Any]):
    """Configurations of well-known models by name, read from their config.json when asked for."""

    def __getitem__(self, name: str) -> Config:
        found = self.data[name]
        if isinstance(found, Path):
            self.data[name] = found = read(found)
        return found


_FILES = sorted((Path(__file__).parent / "presets").glob("*.json"))
PRESETS = Presets(GPT2_SIZES | {file.stem: file for file in _FILES})
COMPARED = (
    *GPT2_SIZES,
    *("llama-3.2-1b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b"),
    *("deepseek-v3", "deepseek-r1"),
)
"""Presets that are compared where a command is asked for all of them."""

"""Checkpoints in Hugging Face layout, from a folder, the hub or the package: safetensors only.

Tensors stored in the dtype asked for are read as they are, or memory-mapped where they are many;
others are converted a little at a time, so that no weight is held twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tokenizers import Tokenizer

from counting import Counted, Ledger, category
from minigpt.checkpoint.chat import ChatTemplate
from minigpt.checkpoint.fit import fit
from minigpt.checkpoint.hub import find
from minigpt.checkpoint.tensors import Held, Progress, Stored, tensors
from minigpt.checkpoint.tokenizer import read_tokenizer
from minigpt.checkpoint.tokenizer_config import TokenizerConfig
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES
from minigpt.inference.device import place
from minigpt.models.architectures import build, read
from minigpt.models.cache import KVCache
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.values import Values


class Forward(Protocol):
    """What runs a pass, as a model does when it is called."""

    def __call__(self, tokens: Any, cache: KVCache, logits: str = "last", /) -> Any:
        """Logits (B, 1, V) of the "last" of the tokens (B, T), or (B, T, V) of "all" of them."""


class Device(Protocol):
    """Where the arrays of a model live, see `place`.

    Attributes:
        name: "cpu", or what its driver calls it.
    """

    name: str

    def hold(self, config: Any, stored: Stored, dtype: str, progress: Progress) -> Held:
        """The tensors of a checkpoint as the model is to hold them, one after another."""

    def forward(self, model: Any, weights: Mapping[str, Any]) -> Forward:
        """What runs the passes of a model of these weights: as `model` does, maybe faster."""

    def free(self) -> int | None:
        """Bytes that may still be asked for, if that is known."""

    def stopwatch(self) -> Callable[[], float]:
        """Starts a measurement; calling what it gives ends it and says the seconds."""


class Sizes(NamedTuple):
    """Sequences, tokens of each that are cached, and that come at once, as in `plan`."""

    batch: int = 1
    context: int = 1
    prompt: int = 1


@dataclass(frozen=True)
class LanguageModel:
    """A model with what turns text into its tokens.

    Attributes:
        name: as it was asked for.
        model: as its code says.
        forward: what runs a pass: as `model` does, maybe faster.
        ledger: that its arrays share: what passes did.
        device: where they are.
        dtype: of its matrices.
        files: that it was read from, and may be mapped.
        sampling: the ledger of drawing tokens, which is no part of a pass.
        ends: the tokens that end a text.
        chat: what makes a message to the model into its prompt, if it has that.
    """

    name: str
    model: Model
    forward: Forward
    tokenizer: Tokenizer
    ledger: Ledger
    device: Device
    dtype: str
    files: tuple[Path, ...] = ()
    sampling: Ledger = field(default_factory=Ledger)
    ends: tuple[int, ...] = ()
    chat: ChatTemplate | None = None

    @property
    def config(self) -> Config:
        return self.model.config

    def __repr__(self) -> str:
        config = self.config
        return (
            f"LanguageModel({self.name!r}: {type(self.model).__name__}, {config.parameters:,} "
            f"parameters in {self.dtype} on {self.device.name}, {config.layers} layers, context "
            f"{config.n_positions:,}, vocabulary {config.vocab_size:,})"
        )


def load(
    model: str | Path = "shakespeare",
    *,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    progress: Progress | None = None,
) -> LanguageModel:
    """A model ready to run and to count: GPT-2, Llama 3 or DeepSeek V3.

    Args:
        model: "shakespeare" (comes with the package), a hub name ("gpt2-xl", "owner/name"), a
            folder, or a .safetensors file with its config.json and tokenizer.json beside it; what
            else may lie there is in `files.BESIDE`.
        dtype: of the matrices, "float32", "bfloat16", "float16" or "int8" (with a scale for each
            output); keys and values are of 16 bits where they are. All else is float32.
        device: "cpu" or "cuda".
        revision: branch, tag or commit on the hub.
        progress: called with the bytes loaded so far and the bytes in all.

    Raises:
        InputError: the model cannot be found, is of no known architecture, or its files are not
            whole.
    """
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: {', '.join(DTYPES)}")
    target = place(device, dtype)
    checkpoint = find(str(model), revision)
    config = read(checkpoint.config)
    if config.uncomputed:
        what = f"{config.uncomputed[0]} is not computed"
        raise InputError(f"{checkpoint.config}: {what}: minigpt count and plan do without")
    tokens = TokenizerConfig.read(checkpoint)
    tokenizer = read_tokenizer(checkpoint, tokens)
    found = chain.from_iterable(map(tensors, checkpoint.tensors))
    config, stored = fit(config, found, checkpoint.config, checkpoint.values("config.json").given)
    require(target, config, dtype, Sizes())
    said = progress or (lambda done, total: None)
    ledger = Ledger()
    weights = {}
    with category("weights"):
        for key, array in target.hold(config, stored, dtype, said):
            weights[key] = Counted(array, ledger)
    built = build(config, weights)
    forward = target.forward(built, weights)
    return LanguageModel(
        name=checkpoint.name,
        model=built,
        forward=forward,
        tokenizer=tokenizer,
        ledger=ledger,
        device=target,
        dtype=dtype,
        files=checkpoint.files,
        ends=_ends(config, checkpoint.values("generation_config.json")),
        chat=tokens.chat,
    )


def _ends(config: Config, generation: Values) -> tuple[int, ...]:
    """The tokens that end a text: those of the generation_config.json, if it says any or none."""
    end = generation.eos_token_id if "eos_token_id" in generation.given else config.eos_token_id
    return end if isinstance(end, tuple) else () if end is None else (end,)


def require(device: Device, config: Config, dtype: str, sizes: Sizes, loaded: bool = False) -> None:
    """Asks for memory before it is taken; of a device that does not know what is free, nothing.

    Args:
        config: of the model.
        dtype: of its matrices and its cache.
        loaded: whether the weights are there already.

    Raises:
        InputError: less is free than needed.
    """
    free = device.free()
    if free is None:
        return
    from minigpt.planning.accelerators import Accelerator
    from minigpt.planning.plan import Plan

    batch, context, prompt = sizes
    here = Accelerator(device.name, {}, 0.0, 0, "")
    held, run = (
        # The context of CUDA, the overhead of a plan, is there already.
        Plan("", config, here, 1, each, each, context, batch, prompt, 0).memory_as_written
        for each in (dtype, "float32")  # activations are float32, and attention is not fused here
    )
    needed = held.kv_cache + held.state + run.activations + (0 if loaded else held.weights)
    if needed > free:
        what = f"{batch} x {context} tokens" if loaded else f"the model in {dtype}"
        raise InputError(
            f"{what} needs {needed:,} bytes on {device.name}, and {free:,} are free: a smaller "
            "model or dtype, fewer tokens, or another GPU (minigpt plan says which)"
        )

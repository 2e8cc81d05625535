"""Checkpoints in Hugging Face layout, from a folder, the hub or the package: safetensors only.

Tensors stored in the dtype asked for are read as they are, or memory-mapped where they are many;
others are converted a little at a time, so that no weight is held twice.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from threading import RLock
from typing import Any

from tokenizers import Tokenizer

from counting import Counted, Ledger, category, interval
from counting.ledger import CATEGORIES, Interval
from counting.scope import outermost
from minigpt.checkpoint.chat import ChatTemplate
from minigpt.checkpoint.fit import fit
from minigpt.checkpoint.hub import find
from minigpt.checkpoint.tensors import Progress, tensors
from minigpt.checkpoint.tokenizer import read_tokenizer
from minigpt.checkpoint.tokenizer_config import TokenizerConfig
from minigpt.checks import NAME, a, checked, function, optional, shown
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES
from minigpt.inference.device import Device, Forward, place
from minigpt.inference.memory import Sizes, require
from minigpt.inference.rank import Rank
from minigpt.models.architectures import build, read
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.values import Values
from minigpt.parallel.communicators import Communicator


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
    # A lock for each process: in a child, a thread that holds its parent's may not be there.
    _turns: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    @contextmanager
    def turn(self, thread: int | None = None) -> Iterator[Interval]:
        """A `with` block in which a pass runs: one after another, each counted by itself.

        It gives the interval, see `counting.interval`, and is outside of all scopes and categories
        that the caller has open.

        Args:
            thread: the identity of one that runs it in place of the caller, who waits for it.
        """
        alone = self._turns.setdefault(os.getpid(), RLock())
        with alone, outermost(), interval(self.ledger, thread) as ran:
            yield ran

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
    engine: str | None = None,
    ring: Communicator | None = None,
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
        engine: what runs a pass on cuda, "reference" (as usual) or "fast": see `device.Cuda`.
        ring: of devices that share the model, each with a part, in float32 on its cpu; on cuda,
            of processes of MPI, each with a GPU. What they pass on is in category "wire" of the
            ledger. The configuration stays the whole model's.
        progress: called with the bytes loaded so far and the bytes in all.

    Raises:
        InputError: the model cannot be found, is of no known architecture, or its files are not
            whole.
    """
    checked("model", model, a("a name or a path", str, Path))
    for what, name in (("dtype", dtype), ("device", device)):
        checked(what, name, NAME)
    for what, maybe in (("revision", revision), ("engine", engine)):
        checked(what, maybe, optional(NAME))
    checked("progress", progress, optional(function))
    checked("ring", ring, optional(a("a place in a ring of devices", Communicator)))
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {shown(dtype)}: {', '.join(DTYPES)}")
    target = Rank(ring, device, dtype, engine) if ring is not None else place(device, dtype, engine)
    checkpoint = find(str(model), revision)
    config = read(checkpoint.config)
    if config.uncomputed:
        what = f"{config.uncomputed[0]} is not computed"
        raise InputError(f"{checkpoint.config}: {what}: minigpt count and plan do without")
    tokens = TokenizerConfig.read(checkpoint)
    tokenizer = read_tokenizer(checkpoint, tokens)
    found = chain.from_iterable(map(tensors, checkpoint.tensors.values()))
    config, stored = fit(config, found, checkpoint.config, checkpoint.values("config.json").given)
    require(target, config, dtype, Sizes())
    said = progress or (lambda done, total: None)
    ledger = Ledger((*CATEGORIES, "wire") if ring is not None else CATEGORIES)
    weights = {}
    with category("weights"):
        for key, array in target.hold(config, stored, dtype, said):
            weights[key] = Counted(array, ledger)
    built = target.build(config, weights) if isinstance(target, Rank) else build(config, weights)
    forward = target.forward(built, weights)
    return LanguageModel(
        name=checkpoint.name,
        model=built,
        forward=forward,
        tokenizer=tokenizer,
        ledger=ledger,
        device=target,
        dtype=dtype,
        files=tuple(checkpoint.files.values()),
        ends=_ends(config, checkpoint.values("generation_config.json")),
        chat=tokens.chat,
    )


def _ends(config: Config, generation: Values) -> tuple[int, ...]:
    """The tokens that end a text: those of the generation_config.json, if it says any or none."""
    end = generation.eos_token_id if "eos_token_id" in generation.given else config.eos_token_id
    return end if isinstance(end, tuple) else () if end is None else (end,)

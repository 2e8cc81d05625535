"""The kinds of input: how one is drawn, and what it is given to, as a user would."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import safetensors.numpy

from fuzzing import calls, commands, instrument, packs, recordings
from fuzzing.mutators import encoded, text, tree
from fuzzing.tiny import TINY, model, originals, speak, speak_with
from fuzzing.tokenizers_drawn import tokenizer
from minigpt import load
from minigpt.checkpoint import tokenizer as tokens
from minigpt.checkpoint.hub import find
from minigpt.checkpoint.resolve import resolve
from minigpt.commands import count, devices, plan
from minigpt.errors import InputError
from minigpt.models.architectures import READERS
from minigpt.models.values import CHECKS
from minigpt.planning.devices import Split
from minigpt.planning.forward import Pass
from minigpt.planning.options import Options

tokens.PATIENCE = 3  # seconds: all prompts together stay within those of an input
PROMPTS = ("ab", "To be, or not", "a" * 40 + "!", " é🙂\n", "<s>[PAD]</s>")
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
PRESET_FILES = sorted((Path(load.__code__.co_filename).parents[1] / "models/presets").glob("*"))


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        draw: makes one; the same of the same generator.
        run: gives one to the program, in a folder that is empty at first and stays from one to the
            next. Raises InputError where that refuses it; whatever else it raises is a fault.
    """

    draw: Callable[[Random], bytes]
    run: Callable[[bytes, Path], None]


def quietly(run: Callable[..., Any], *args: Any, **options: Any) -> None:
    with redirect_stdout(io.StringIO()):
        run(*args, **options)


# config.json


def drawn_config(rng: Random) -> bytes:
    if rng.random() < 0.3:
        given = TINY.values()
    else:
        given = json.loads(rng.choice(PRESET_FILES).read_text())
    if rng.random() < 0.95:  # each expert is run for itself: few tell as much
        given |= {key: min(given[key], 16) for key in EXPERTS if key in given}
    if rng.random() < 0.1:
        given["model_type"] = rng.choice(list(READERS))
    return encoded(rng, tree(rng, given, list(CHECKS)))


def run_config(made: bytes, folder: Path) -> None:
    alone = folder / "alone.json"
    alone.write_bytes(made)
    name = str(alone)
    try:
        config = resolve(name)
    except InputError:
        speak_with(folder, "config.json", made)  # refuses it too
        raise AssertionError("count refuses what generate takes") from None
    if _known(hash((config, config.uncomputed))):  # nothing else of it reaches what is run
        return
    runs = [lambda: quietly(count.run, name, Pass(3, 1, 2), as_json=True)]
    if not _known(hash(config)):
        runs += [lambda: speak_with(folder, "config.json", made)]
        draw = crc32(made)  # other passes of the same model, and tables: they take their time
        if draw % 3 == 0:
            gpus = 2 if draw % 2 else 1
            runs += [lambda: quietly(plan.run, name, "h100", Options(gpus=gpus), as_json=True)]
        if draw % 8 == 1:
            runs += [lambda: quietly(count.run, name, by="layer")]
            runs += [lambda: quietly(devices.run, name, Pass(3, 1, 2), Split(2), as_json=True)]
    for run in runs:
        with suppress(InputError):
            run()


KNOWN = set[int]()


def _known(number: int) -> bool:
    """Whether a configuration of this hash was tried in this process."""
    known = number in KNOWN
    KNOWN.add(number)
    return known


# tokenizer.json, and what lies beside it


def run_tokenizer(made: bytes, folder: Path) -> None:
    speak_with(folder, "tokenizer.json", made, PROMPTS)


BESIDE = {
    "tokenizer_class": "GPT2Tokenizer",
    "add_prefix_space": True,
    "add_bos_token": False,
    "bos_token": "<s>",
    "eos_token": {"content": "</s>", "lstrip": False, "normalized": True, "special": True},
    "pad_token": None,
    "legacy": True,
    "additional_special_tokens": ["<x>", "<y>"],
    "added_tokens_decoder": {"260": {"content": "<z>", "special": True, "lstrip": True}},
    "chat_template": "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}",
}


def drawn_beside(rng: Random) -> bytes:
    return encoded(rng, tree(rng, BESIDE, ("extra_special_tokens", "unk_token", "x_token")))


def run_beside(made: bytes, folder: Path) -> None:
    speak_with(folder, "tokenizer_config.json", made, PROMPTS[:2])


# safetensors: the header, and what follows


def drawn_safetensors(rng: Random) -> bytes:
    """A header, mutated, with its length; the rest of the file is as it was."""
    given, offset = {}, 0
    for key, shape in TINY.shapes().items():
        size = 4
        for n in shape:
            size *= n
        given[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = encoded(rng, tree(rng, given, ("__metadata__", "wte.weight")))
    length = len(header) if rng.random() < 0.9 else rng.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return length.to_bytes(8, "little") + header


def run_safetensors(made: bytes, folder: Path) -> None:
    model(folder)
    first = originals(folder)["model.safetensors"]
    rest = first[8 + int.from_bytes(first[:8], "little") :]
    speak_with(folder, "model.safetensors", made + rest)


# The index of shards


SHARDS = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
WEIGHT_MAP = {key: SHARDS[i % 2] for i, key in enumerate(TINY.shapes())}


def drawn_index(rng: Random) -> bytes:
    return encoded(rng, tree(rng, {"metadata": {"total_size": 1}, "weight_map": WEIGHT_MAP}))


def run_index(made: bytes, folder: Path) -> None:
    there = folder / "sharded"
    if not there.exists():
        there.mkdir()
        for name in ("config.json", "tokenizer.json"):
            (there / name).write_bytes(originals(folder)[name])
        whole = safetensors.numpy.load(originals(folder)["model.safetensors"])
        for shard in SHARDS:
            part = {key: whole[key] for key, where in WEIGHT_MAP.items() if where == shard}
            safetensors.numpy.save_file(part, there / shard)
    (there / "model.safetensors.index.json").write_bytes(made)
    with suppress(InputError):
        find(str(there))
    with suppress(InputError):
        quietly(count.run, str(there), as_json=crc32(made) % 10 > 0)  # a table takes its time
    speak(there)


# A file that describes a GPU

GPU = {
    "name": "mine",
    "flops": {"float16/float32": 1e14, "float32/float32": 1e13},
    "bandwidth": 1e12,
    "memory": 2**34,
    "source": "a data sheet",
    "link": "none",
    "link_bandwidth": 1e11,
    "nominal_memory": 2**34,
    "memory_source": "",
    "cache": 2**20,
    "measured": False,
}


def drawn_gpu(rng: Random) -> bytes:
    if rng.random() < 0.2:
        lines = [f"{k} = {json.dumps(v)}" for k, v in GPU.items() if not isinstance(v, dict)]
        lines += ["[flops]", *(f'"{k}" = {v}' for k, v in GPU["flops"].items())]  # type: ignore[attr-defined]
        return b"#" + text(rng, "\n" + "\n".join(lines)).encode(errors="replace")
    return b" " + encoded(rng, tree(rng, GPU, ("flops", "float32", "x")))


def run_gpu(made: bytes, folder: Path) -> None:
    file = folder / ("gpu.toml" if made[:1] == b"#" else "gpu.json")
    file.write_bytes(made)
    quietly(plan.run, "gpt2", str(file))
    quietly(plan.run, "mixtral-8x7b", str(file), Options(batch=4), as_json=True)


# A recording


def run_recording(made: bytes, folder: Path) -> None:
    recordings.run(made, folder, model(folder))


KINDS = {
    "config": Kind(drawn_config, run_config),
    "tokenizer": Kind(tokenizer, run_tokenizer),
    "beside": Kind(drawn_beside, run_beside),
    "safetensors": Kind(drawn_safetensors, run_safetensors),
    "index": Kind(drawn_index, run_index),
    "gpu": Kind(drawn_gpu, run_gpu),
    "recording": Kind(recordings.draw, run_recording),
    "pack": Kind(packs.draw, packs.run),
    "command": Kind(commands.draw, commands.run),
    "call": Kind(calls.draw, calls.run),
    "counting": Kind(instrument.draw, instrument.run),
}

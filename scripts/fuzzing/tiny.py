"""A tiny model in a folder, and what it says when one of its files is another one."""

from functools import cache
from pathlib import Path
from typing import Any

from minigpt import generate, load
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.models.gpt2_config import GPT2Config

TINY = GPT2Config(vocab_size=260, n_positions=32, n_embd=8, n_layer=2, n_head=2, eos_token_id=259)
ABANDONED = "is at it for more than"  # what is said of a tokenizer that does not end


def model(folder: Path) -> Path:
    """A tiny model in a folder, made once."""
    if not (folder / "m").exists():
        write_checkpoint(TINY, folder / "m")
        (folder / "m" / "first.safetensors").write_bytes(weights(folder))
    return folder / "m"


def weights(folder: Path) -> bytes:
    return (folder / "m" / "model.safetensors").read_bytes()


def speak(folder: Path, prompt: str = "ab", **options: Any) -> list[int]:
    """The tokens of a model that is in a folder."""
    lm = load(folder, **options)
    steps = generate(lm, prompt, max_new_tokens=2, temperature=0)
    return [step.token for step in steps]


@cache
def originals(folder: Path) -> dict[str, bytes]:
    found = {p.name: p.read_bytes() for p in model(folder).iterdir()}
    return {name: data for name, data in found.items() if name != "first.safetensors"}


def speak_with(folder: Path, name: str, made: bytes, prompts: tuple[str, ...] = ("ab",)) -> None:
    """Speaks with the tiny model, one of whose files is another one."""
    there = originals(folder)
    path = model(folder) / name
    path.write_bytes(made)
    try:
        lm = load(model(folder))
        for prompt in prompts:
            try:
                for _ in generate(lm, prompt, max_new_tokens=3, seed=1):
                    pass
            except InputError as error:
                if prompt == prompts[-1] or ABANDONED in str(error):
                    raise
    finally:
        if name in there:
            path.write_bytes(there[name])
        else:
            path.unlink()

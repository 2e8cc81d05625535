"""The checkpoints of the benchmarks, and the copies that other engines need."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint

from minigpt.bench import subject as models
from minigpt.bench.convert import converted
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.inference.load import load
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

LLAMA = llama(
    vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    eos_token_id=299,
    tie_word_embeddings=True,
)


def test_random_weights_are_made_once(folder, monkeypatch):
    for name, config in {"gpt2": CONFIG, "llama-3.2-1b": LLAMA}.items():
        monkeypatch.setitem(models.PRESETS, name, config)
        made = models.subject(name)
        lm = load(made.folder)
        assert (made.config, lm.config) == (config, config)
        written = (made.folder / "model.safetensors").stat()
        assert models.subject(name) == made
        assert (made.folder / "model.safetensors").stat().st_mtime_ns == written.st_mtime_ns
        assert written.st_size // config.parameters == (4 if name == "gpt2" else 2)


def test_random_weights_that_have_no_room_are_refused(folder, monkeypatch):
    monkeypatch.setitem(models.PRESETS, "gpt2", CONFIG)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(
        InputError, match=r"random weights of gpt2 take [\d,]+ bytes, and 1,000 are"
    ):
        models.subject("gpt2")


def test_a_checkpoint_is_whole_or_not_there(tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(CONFIG, tmp_path / "m", progress=interrupt)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/m cannot be written: Not a directory"):
        write_checkpoint(CONFIG, tmp_path / "file" / "m")


def test_a_copy_is_made_once_for_each_checkpoint(folder):
    made = []

    def make(path):
        made.append(path)
        path.write_text("copy")

    first = converted(folder, "a", make)
    assert (converted(folder, "a", make), first.read_text(), len(made)) == (first, "copy", 1)
    checkpoint(folder, wider())
    assert converted(folder, "a", make) != first
    with pytest.raises(ZeroDivisionError):
        converted(folder, "b", lambda path: (path.mkdir(), 1 / 0))
    assert sorted(path.name for path in first.parent.parent.rglob("[ab]*")) == ["a", "a"]


def wider():
    """Weights of another checkpoint, in a file of another size."""
    config = GPT2Config(260, 16, 16, 1, 2)
    return {key: np.zeros(shape, np.float32) for key, shape in config.shapes().items()}

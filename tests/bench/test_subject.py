"""The checkpoints of the benchmarks, and the copies that other engines need."""

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint

from minigpt.bench import subject as models
from minigpt.bench.convert import converted
from minigpt.checkpoint.synthetic import write_checkpoint
from minigpt.errors import InputError
from minigpt.inference.load import load
from minigpt.models.gpt2_config import GPT2Config


def test_random_weights_are_made_once(folder, monkeypatch):
    monkeypatch.setitem(models.GPT2_SIZES, "gpt2", CONFIG)
    made = models.subject("gpt2")
    lm = load(made.folder)
    assert (made.config, lm.config) == (CONFIG, CONFIG)
    written = (made.folder / "model.safetensors").stat().st_mtime_ns
    assert models.subject("gpt2") == made
    assert (made.folder / "model.safetensors").stat().st_mtime_ns == written


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

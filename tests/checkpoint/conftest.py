"""A hub on this machine, and the command that asks it."""

import threading
from functools import partial

import pytest
from checkpoints import checkpoint, environment, minigpt
from loopback import COMMIT, Hub


@pytest.fixture
def hub():
    with Hub() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def there(tmp_path, hub):
    """A tiny model on the hub, in one file."""
    folder = checkpoint(tmp_path / "there")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    hub.repos["owner/name"] = {"main": (COMMIT, folder)}
    return folder


@pytest.fixture
def command(tmp_path, hub):
    """Runs minigpt in an empty folder with an empty cache of the hub's files."""
    here = tmp_path / "here"
    here.mkdir()

    def run(*args, **env):
        home = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": hub.url}
        return minigpt(*args, cwd=here, env=environment(**home | env))

    return run

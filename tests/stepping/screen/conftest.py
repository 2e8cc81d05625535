"""What the tests of the screen share."""

from dataclasses import replace

import pytest
from checkpoints import CONFIG, checkpoint, tensors


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    config = replace(CONFIG, n_positions=512)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return checkpoint(folder, tensors(config), n_positions=config.n_positions)

"""What the tests of the models share."""

import pytest


@pytest.fixture(scope="module")
def torch():
    pytest.importorskip("transformers", reason="transformers, a witness, is not installed")
    return pytest.importorskip("torch", reason="PyTorch, a witness, is not installed")

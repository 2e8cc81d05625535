"""What the tests of the commands share."""

import pytest
from checkpoints import PROMPT

from minigpt import generate, load


@pytest.fixture(scope="module")
def said():
    """What the shipped model says with SHORT."""
    steps = generate(load(), PROMPT, max_new_tokens=6, seed=1)
    return PROMPT + "".join(step.text for step in steps)

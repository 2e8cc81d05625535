"""What the tests of stepping share: what the shipped model does without it."""

import pytest
from checkpoints import PROMPT
from stepped import SHORT

from minigpt import generate, load


@pytest.fixture(scope="module")
def plain():
    """A run of the shipped model without stepping: its steps, and its ledger."""
    lm = load()
    return list(generate(lm, PROMPT, **SHORT)), lm.ledger


@pytest.fixture(scope="module")
def said():
    """What the shipped model says in a session, without stepping."""
    return PROMPT + "".join(s.text for s in generate(load(), PROMPT, max_new_tokens=4, seed=1))

"""What is left of a run that was killed, and the run after it. `scripts/kill.py` does more."""

import os

import pytest
from kill import PHASES, killed


@pytest.mark.once
@pytest.mark.skipif(os.environ.get("MINIGPT_FAST") == "0", reason="without kernels nothing packs")
@pytest.mark.parametrize("seed", [0])
def test_what_was_killed_leaves_whole_lines_and_the_next_run_is_right(seed):
    found = [*killed(6, seed)]
    assert [one.wrong for one in found] == [[]] * len(found)
    assert {one.phase for one in found} == {*PHASES}
    assert sum(one.alive for one in found) >= 3

"""What recording adds to a counted token: of two generations in turn one is recorded."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from minigpt.bench.overhead import in_turn
from minigpt.bench.subject import subject
from minigpt.commands.log import open_lines
from minigpt.errors import InputError
from minigpt.inference.generate import continuation
from minigpt.inference.load import load
from minigpt.inference.sample import Sampling
from minigpt.recording.write import recording

PROMPT = "To be"


class Recorded(NamedTuple):
    """What recording adds to a token, from pairs of one counted and one recorded too."""

    model: str
    dtype: str
    pairs: int
    counted_ms: float
    recorded_ms: float
    percent: float  # median over the pairs of recorded / counted - 1
    percent_quartiles: tuple[float, float]


def record(model: str = "gpt2", pairs: int = 40, dtype: str = "float32") -> Recorded:
    """Tokens of two generations of the same prompt, in turn, as `minigpt generate` has them.

    Args:
        model: see `bench.subject`.
        pairs: how many pairs to time.
        dtype: see `minigpt.load`.

    Raises:
        InputError: the model or the dtype is unknown, or the tokens do not fit its context.
    """
    if pairs < 1:
        raise InputError(f"pairs must be at least 1: {pairs}")
    lm = load(subject(model).folder, dtype=dtype)
    sampling = Sampling(max_new_tokens=pairs + 2, seed=1, ignore_eos=True)
    with (
        TemporaryDirectory() as folder,
        open_lines(Path(folder) / "run.jsonl", "recording", lm) as write,
        recording(write, lm, [PROMPT], sampling) as note,
    ):
        counted, recorded = (continuation(lm, [PROMPT], sampling) for _ in range(2))

        def step() -> None:
            next(counted)

        def step_recorded() -> None:
            note(next(recorded))

        for _ in range(2):  # the prompt, and a first token after it
            step()
            step_recorded()
        times = in_turn(step, step_recorded, pairs)
    return Recorded(model, dtype, pairs, *times)

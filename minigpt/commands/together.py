"""`mpiexec -n N minigpt generate --tensor-parallel`: processes that share a model."""

from collections.abc import Sequence

from minigpt.commands.generate import Output, run
from minigpt.commands.options import ModelOptions
from minigpt.errors import without_effect
from minigpt.inference.sample import Sampling
from minigpt.notes import note, saying
from minigpt.parallel.communicators import MPI
from minigpt.parallel.processes import watched


def together(
    prompts: Sequence[str],
    options: ModelOptions,
    sampling: Sampling,
    output: Output,
    chat: bool = False,
) -> int:
    """As `run`, in one process of several, of which the first speaks; see there."""
    without_effect({"--trace-allocator": output.trace_allocator}, "--tensor-parallel")
    watched()
    ring = MPI()
    with ring.together():
        if ring.rank:
            prompts, output = [], Output(silent=True)  # what the first one reads goes to all
        status = run(prompts, options, sampling, output, chat, ring)
        if ring.size == 1:
            with saying(output.tables):
                note("one process had all of the model: mpiexec -n 2 minigpt … divides it")
        return status

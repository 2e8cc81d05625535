"""Whether a model, its cache and a run of it fit into what a device has free."""

from typing import NamedTuple

from minigpt.errors import InputError
from minigpt.inference.device import Device
from minigpt.models.config import Config


class Sizes(NamedTuple):
    """Sequences, tokens of each that are cached, and that come at once, as in `plan`."""

    batch: int = 1
    context: int = 1
    prompt: int = 1


def require(device: Device, config: Config, dtype: str, sizes: Sizes, loaded: bool = False) -> None:
    """Asks for memory before it is taken; of a device that does not know what is free, nothing.

    Args:
        config: of the model.
        dtype: of its matrices and its cache.
        loaded: whether the weights are there already.

    Raises:
        InputError: less is free than needed.
    """
    free = device.free()
    if free is None:
        return
    from minigpt.planning.accelerators import Accelerator
    from minigpt.planning.plan import Plan

    batch, context, prompt = sizes
    here = Accelerator(device.name, {}, 0.0, 0, "")
    held, run = (
        # The context of CUDA, the overhead of a plan, is there already.
        Plan("", config, here, 1, each, each, context, batch, prompt, 0).memory_as_written
        for each in (dtype, "float32")  # activations are float32, and attention is not fused here
    )
    needed = held.kv_cache + held.state + run.activations + (0 if loaded else held.weights)
    if needed > free:
        what = f"{batch} x {context} tokens" if loaded else f"the model in {dtype}"
        raise InputError(
            f"{what} needs {needed:,} bytes on {device.name}, and {free:,} are free: a smaller "
            "model or dtype, fewer tokens, or another GPU (minigpt plan says which)"
        )

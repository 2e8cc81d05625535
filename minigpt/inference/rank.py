"""This machine, as one of the devices that share a model: it holds a part of each tensor."""

from typing import Any

import numpy as np

from counting import Counts
from counting.views import flops, matmul
from minigpt.checkpoint.dtypes import NUMPY
from minigpt.checkpoint.tensors import Held, Progress, Stored, Tensor
from minigpt.errors import InputError
from minigpt.inference.device import Cuda, Forward, Host, multiplies
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.shard import Shard
from minigpt.parallel.communicators import MPI, Communicator
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT, sent_by


class Rank:
    """A device that runs the model's own code, without kernels, on its part. See `Device`.

    On the CPU matrices are float32, on GPUs as `Cuda` has them; each process takes a GPU.

    Raises:
        InputError: another device, dtype or engine was asked for, or cannot be had.
    """

    def __init__(self, ring: Communicator, device: str, dtype: str, engine: str | None) -> None:
        self.ring, self._gpu = ring, None
        if device == "cuda" and engine != "fast" and isinstance(ring, MPI):
            self._gpu = Cuda(dtype, among=ring.on_machine())
            from minigpt.parallel.nccl import NCCL  # it imports CuPy

            self.ring = NCCL(ring)
        elif (device, dtype, engine) != ("cpu", "float32", None):
            asked = " ".join(filter(None, (device, dtype, engine)))
            raise InputError(
                "parts of a model run on cpu in float32, or in processes of MPI on cuda by the "
                f"reference, not on {asked}"
            )
        on = self._gpu or Host()
        self.name, self.stopwatch = on.name, on.stopwatch

    def _part(self, config: Config) -> Config:
        return divided(config, self.ring.rank, self.ring.size)

    def hold(self, config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
        """The parts of the tensors of a checkpoint, cut as they are read."""
        part, gpu = self._part(config), self._gpu
        if gpu:
            _require_some(config, self.ring.size)
        total, done = sum(tensor.nbytes for tensor in stored.values()), 0
        for key, shape in part.shapes().items():
            held = read_part(stored[key], shape)
            if gpu:
                matrix = multiplies(part, key, len(shape))
                with np.errstate(over="ignore"):  # infinities show in the logits
                    held = held.astype(NUMPY[dtype if matrix else "float32"], copy=False)
                held = gpu.put(held, matrix)
            yield key, held
            done += stored[key].nbytes
            progress(done, total)

    def build(self, config: Config, weights: dict[str, Any]) -> Model:
        """The model of these parts, which adds up what all devices find."""
        return build_part(config, self._part(config), weights, self.ring)

    def forward(self, model: Model, weights: Any) -> Forward:
        """The model itself; on a GPU, tokens are taken there, where rows of parts are chosen."""
        gpu = self._gpu
        if gpu is None:
            return model
        return lambda tokens, cache, logits="last": model(gpu.put(tokens), cache, logits)

    def free(self) -> None:
        """It is not known what a part needs, so nothing is asked for."""


def _require_some(config: Config, size: int) -> None:
    """Raises InputError if one of so many GPUs, which multiply no empty matrix, would have one."""
    for part in (divided(config, rank, size) for rank in range(size)):
        if empty := [key for key, shape in part.shapes().items() if 0 in shape]:
            raise InputError(f"of {size} GPUs one would have no part of {empty[0]}: take fewer")


def read_part(tensor: Tensor, shape: tuple[Any, ...]) -> np.ndarray:
    """The part of a tensor that a shape with Shards asks for, float32, in memory of its own."""
    first, *others = shape
    rows = np.fromiter(first.indices() if isinstance(first, Shard) else range(first), np.int64)
    part, done = np.empty(shape, np.float32), 0
    for where, block in tensor.blocks():
        mine = rows[(rows >= where.start) & (rows < where.stop)] - where.start
        part[done : done + len(mine)] = cut(block[mine], (len(mine), *others))
        done += len(mine)
    return part


def of_rank(counts: Counts, live: dict[str, int], peak: dict[str, int]) -> dict[str, Any]:
    """What one of several devices did and holds, as a JSON object.

    Args:
        live, peak: bytes by category.
    """
    received = counts.where(operation=SENT).bytes_written
    return {
        "flops": flops(counts),
        "matmul_flops": matmul(counts),
        "kinds": counts.cost.by_kind(),
        "bytes_read": counts.bytes_read,
        "bytes_written": counts.bytes_written,
        "bytes_sent": dict(sent_by(counts)),
        "bytes_received": sum(received.values()),
        "live_bytes": live,
        "peak_bytes": peak,
    }

"""This machine, as one of the devices that share a model: it holds a part of each tensor."""

from typing import Any

import numpy as np

from counting import Counts
from counting.views import flops, matmul
from minigpt.checkpoint.tensors import Held, Progress, Stored, Tensor
from minigpt.errors import InputError
from minigpt.inference.device import Host
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.shard import Shard
from minigpt.parallel.communicators import Communicator
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT, sent_by


class Rank(Host):
    """A device that runs the model's own code, without kernels, on its part in float32.

    Raises:
        InputError: another device, dtype or engine was asked for.
    """

    def __init__(self, ring: Communicator, device: str, dtype: str, engine: str | None) -> None:
        if (device, dtype, engine) != ("cpu", "float32", None):
            asked = " ".join(filter(None, (device, dtype, engine)))
            raise InputError(f"parts of a model run on cpu in float32 alone, not on {asked}")
        self.ring = ring

    def _part(self, config: Config) -> Config:
        return divided(config, self.ring.rank, self.ring.size)

    def hold(self, config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
        """The parts of the tensors of a checkpoint, cut as they are read."""
        total, done = sum(tensor.nbytes for tensor in stored.values()), 0
        for key, shape in self._part(config).shapes().items():
            yield key, read_part(stored[key], shape)
            done += stored[key].nbytes
            progress(done, total)

    def build(self, config: Config, weights: dict[str, Any]) -> Model:
        """The model of these parts, which adds up what all devices find."""
        return build_part(config, self._part(config), weights, self.ring)

    def forward(self, model: Model, weights: Any) -> Model:
        """The model itself."""
        return model


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

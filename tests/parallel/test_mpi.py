"""Devices as processes that mpiexec starts: the same sums, the same logits, the same bytes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoints import ROOT

pytest.importorskip("mpi4py", reason="mpi4py is not installed")
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

RANK = '''
import json, random, sys
import numpy as np
from mpi4py import MPI as mpi
from counting import Counted, Ledger, category
from counting.ledger import CATEGORIES
from minigpt.models.architectures import build
from minigpt.models.gpt2_config import GPT2Config
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.communicators import MPI
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import SENT, Split, on_devices
from minigpt.planning.forward import Pass

seed, ring, world = int(sys.argv[1]), MPI(), mpi.COMM_WORLD
moved = 0
sendrecv = ring.world.Sendrecv

class Watched:
    """The world, and the bytes that its buffers bring: counted by MPI, in a Status."""
    def Sendrecv(self, x, to, *, recvbuf, source):
        global moved
        status = mpi.Status()
        sendrecv(x, to, recvbuf=recvbuf, source=source, status=status)
        moved += status.Get_count(mpi.BYTE)

rng = np.random.default_rng(seed)
shape = tuple(int(n) for n in rng.integers(1, 6, 2))
xs = rng.normal(size=(ring.size, *shape)).astype("float32")
ledger, expected = Ledger((*CATEGORIES, "wire")), np.empty(shape, "float32")
world.Allreduce(xs[ring.rank], expected)
found = all_reduce(Counted(xs[ring.rank], ledger), ring).data
np.testing.assert_allclose(found, expected, 1e-5, 1e-6)
row = all_gather(Counted(xs[ring.rank], ledger), [shape[1]] * ring.size, ring)
assert np.array_equal(row.data, np.concatenate(world.allgather(xs[ring.rank]), axis=-1))

draw = random.Random(seed)
H, D = draw.randint(1, 5), draw.randint(1, 4)
config = GPT2Config(draw.randint(5, 50), 9, H * D, 2, H)
shapes = config.shapes()
whole = {key: rng.normal(0, 0.3, shapes[key]).astype("float32") for key in shapes}
tokens = rng.integers(0, config.vocab_size, (1, 5))
model = build(config, whole)
one = model(tokens, model.new_cache(1, 5), "last")

ledger, ring.world = Ledger((*CATEGORIES, "wire")), Watched()
part = divided(config, ring.rank, ring.size)
asked = part.shapes()
with category("weights"):
    held = {key: Counted(cut(whole[key], asked[key]), ledger) for key in asked}
model = build_part(config, part, held, ring)
logits = model(tokens, model.new_cache(1, 5), "last").data
np.testing.assert_allclose(logits, one, atol=1e-4)
passed = ledger.snapshot().where(operation=SENT)
paper = on_devices(config, Pass(T=5, dtype="float32", logits="last"), Split(ring.size))[ring.rank]
counted = sum(passed.bytes_read.values()), sum(passed.bytes_written.values())
assert sum(paper.sent.values()) == counted[0]
found = world.gather((logits.tolist(), *counted, moved))
if ring.rank == 0:
    print(json.dumps(found))
'''


@pytest.mark.skipif(not MPIEXEC, reason="there is no mpiexec")
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_processes_find_what_one_finds(tmp_path, size):
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    command = [MPIEXEC, "-n", str(size), sys.executable, str(script), str(1000 + size)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert len(found) == size
    for logits, _, received, moved in found:
        assert logits == found[0][0]
        assert received == moved
    assert sum(rank[1] for rank in found) == sum(rank[2] for rank in found)
    assert (found[0][1] > 0) == (size > 1)

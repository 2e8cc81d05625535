"""What kernels execute is what is counted of them, and the algebra that is said of the rest.

The processor itself is the witness: it is stepped through the kernels for this machine and those
for one without AVX-512.
"""

import json
import random
from functools import partial

import deltas
import numpy as np
import pytest
from families import read as config_of
from families import tiny

pytest.importorskip("capstone")
pytest.importorskip("llvmlite")

from llvmlite.binding import get_host_cpu_features

from counting import executed
from counting.costs import COSTS
from counting.machine import Moved, Ran, Unavailable
from counting.scope import scope
from minigpt.commands import verify_machine
from minigpt.fast.fused import fused_kernels
from minigpt.fast.kernels import matmul, threads
from minigpt.fast.kernels.llvm import Code, Target
from minigpt.fast.kernels.machine import Machine
from minigpt.fast.packed import PackedMatrix, narrowed
from minigpt.fast.replay import FEW
from minigpt.formulas.machine import stepped
from minigpt.formulas.machine.algebra import terms, tiles, value
from minigpt.formulas.machine.stepped import Stepped, Steps, price
from minigpt.formulas.machine.verify import TRIES, SteppedModel, fused, loaded, operations
from minigpt.models import ops
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

try:
    executed(abs, 1)
except Unavailable as error:
    pytest.skip(str(error), allow_module_level=True)
if not {"fma", "f16c"} <= {name for name, has in get_host_cpu_features().items() if has}:
    pytest.skip("this processor lacks what kernels need", allow_module_level=True)


AVX2 = ["sse4.2", "avx", "avx2", "fma", "f16c"]


MACHINES = {16: Machine(Target(), cores=1)} if Target().lanes == 16 else {}
MACHINES[8] = Machine(Target(AVX2), cores=1)


@pytest.fixture(params=MACHINES, ids="{} lanes".format)
def kernels(request):
    return MACHINES[request.param]


@pytest.fixture
def steps(kernels):
    found = Steps(kernels)
    found.watching = True
    return found


def noted(steps, run, *given):
    """Has something stepped; again where traps were lost, as virtual machines do at times."""
    for _ in range(TRIES):
        steps.done = []
        run(*given)
        if not steps.lost:
            return


def check(steps, counted):
    """Holds the jobs since the last check against what the NumPy line is counted to take."""
    calls = [step.call for step in steps.done]
    assert calls
    assert all(terms(call) is not None for call in calls), calls
    said = sum(value(term.formula, call.sizes) for call in calls for term in terms(call))
    done = sum(operations(step.ran) for step in steps.done)
    assert done == counted + said, calls
    steps.done = []


def test_what_is_done_to_each_number_takes_what_is_said(steps):
    draw, rng, L = random.Random(1), np.random.default_rng(1), steps.machine.lanes
    fused_of = fused_kernels(steps.machine)
    x = rng.standard_normal((draw.randint(1, 4), L * draw.randint(1, 3)), np.float32)
    for function in (ops.gelu, ops.gelu_exact, ops.silu, ops.relu):
        noted(steps, fused_of[function], x)
        check(steps, price(function.function, (x,), {}).flops)
    for function, given in (
        (ops.layer_norm, (x, x[0], x[0], 1e-5)),
        (ops.rms_norm, (x, x[0], 1e-5)),
    ):
        noted(steps, fused_of[function], *given)
        check(steps, price(function.function, given, {}).flops)


@pytest.mark.parametrize("name", ["add", "tanh", "copy_bfloat16", "copy_float32"])
def test_rows_that_fill_no_vector_or_lie_apart_take_what_is_said(steps, name):
    draw = random.Random(name)
    for apart in (1, 2):
        n, d = draw.randint(1, 4), draw.randint(1, 3 * steps.machine.lanes)
        x = np.ones((n, d * apart), np.float32)[:, ::apart]
        to = np.empty((n, d), np.uint16 if name == "copy_bfloat16" else np.float32)
        assert steps.machine.move(name, to, *[x] * (2 if name == "add" else 1))
        check(steps, 0 if name.startswith("copy") else n * d)


MASKS = {
    "causal": lambda T, S: np.arange(S) <= np.arange(S - T, S)[:, None],
    "window": lambda T, S: np.arange(S) > np.arange(S - T, S)[:, None] - 1 - S // 3,
}


@pytest.mark.parametrize("function", [ops.attention, ops.capped_attention, ops.sink_attention])
@pytest.mark.parametrize("T", [1, 3, 5, 19])
def test_attention_takes_what_is_said(steps, function, T):
    draw, rng, L = random.Random(T), np.random.default_rng(T), steps.machine.lanes
    H, D, S = draw.randint(1, 2), L, T + draw.randint(0, 3 * L)
    mask = draw.choice([*MASKS.values()])(T, S)
    q, k, v = (rng.standard_normal((1, H, n, D), np.float32) for n in (T, S, S))
    more = {ops.capped_attention: (3.0,), ops.sink_attention: (np.ones((H, 1, 1), np.float32),)}
    given = (q, k, v, mask, 0.1, *more.get(function, ()))
    noted(steps, fused_kernels(steps.machine)[function], *given)
    check(steps, price(function.function, given, {}).flops)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
@pytest.mark.parametrize("turned", [True, False])
def test_a_product_takes_its_multiply_adds_loads_its_weight_and_adds_up_as_said(
    steps, dtype, turned
):
    if dtype == "int8" and not turned:
        pytest.skip("int8 has no kernel by columns")
    draw, rng, L = random.Random(f"{dtype}{turned}"), np.random.default_rng(2), steps.machine.lanes
    for n in (1, draw.randint(2, 8), draw.randint(9, 20), 49):
        out, d = draw.randint(1, 9) if turned else 2 * L, L * draw.randint(1, 5 if n < 9 else 2)
        stored = rng.standard_normal((out, d) if turned else (d, out), np.float32)
        weight = PackedMatrix(*narrowed(stored, dtype), turned, steps.machine)
        x, steps.arrays = rng.standard_normal((n, d), np.float32), {"w": weight.stored}
        noted(steps, weight.multiply, x)
        (done,) = (step for step in steps.done if step.call.kernel.startswith("product"))
        assert fused(done.ran) == n * out * d
        assert done.ran.moved["w"].read == loaded(done.call)
        check(steps, price(np.matmul, (x, weight), {}).flops)


def test_rows_of_which_segments_are_added_up_take_what_is_said(steps):
    x, rows = np.ones((2, 1024), np.float32), np.ones((5, 1024), np.float32)
    weight = PackedMatrix(rows, None, True, steps.machine)
    noted(steps, weight.multiply, x)
    check(steps, 2 * x.size * len(rows))


def with_another_product(lanes):
    """A machine whose products of float32 are as the code is now; and that code, to be kept."""
    target = Target() if lanes == 16 else Target(AVX2)

    def build(module, target):
        threads.sharing(module, target)
        matmul.product(module, target, "float32")

    found, code = Machine(target, cores=1), Code(target.compile(build), target)
    found._code["product_float32"] = code["product_float32"]
    return found, code


def test_tiles_of_other_widths_load_the_weight_as_often_as_is_said(kernels, monkeypatch):
    monkeypatch.setattr(matmul, "TILES", {16: (2, 1), 8: (2, 1)})
    machine, _kept = with_another_product(kernels.lanes)
    steps, L = Steps(machine), kernels.lanes
    steps.watching = True
    weight = PackedMatrix(np.ones((5, 2 * L), np.float32), None, True, steps.machine)
    steps.arrays = {"w": weight.stored}
    weight.multiply(np.ones((7, 2 * L), np.float32))
    (done,) = steps.done
    assert done.ran.moved["w"].read == loaded(done.call) == 4 * weight.stored.nbytes


@pytest.mark.parametrize("n", range(1, 20))
@pytest.mark.parametrize("widths", [(4, 2, 1), (3, 2, 1), (2, 1), (4, 1)])
def test_tiles_are_all_of_the_rows(n, widths):
    assert sum(tiles(n, widths)) == n


def drawn(seed, lanes):
    """A model at odd sizes: what fits a vector, and what does not."""
    draw = random.Random(seed)
    D, H = draw.choice([lanes, lanes // 2, 5]), draw.randint(1, 3)
    if seed % 3 == 2:
        K = draw.choice([1, H])
        return llama(
            vocab_size=draw.randint(7, 40),
            hidden_size=draw.choice([H * D, 2 * lanes]),
            intermediate_size=draw.randint(5, 40),
            num_hidden_layers=1,
            num_attention_heads=H,
            num_key_value_heads=K,
            head_dim=2 * D,
            max_position_embeddings=64,
        )
    return GPT2Config(draw.randint(7, 40), 64, H * D, 1, H, draw.randint(5, 40))


@pytest.mark.parametrize("seed", range(10))
def test_of_models_drawn_kernels_execute_what_is_counted_and_said(seed):
    draw = random.Random(seed)
    kernels = draw.choice([*MACHINES.values()])
    config = drawn(seed, kernels.lanes)
    dtype = draw.choice(["float32", "bfloat16", "int8"])
    model = SteppedModel(config, dtype, kernels, seed, numpy=False)
    found = model.compare(draw.choice([1, 1, 2, 5]), draw.randint(0, 20))
    assert found.agrees, found
    assert found.way != "reference"


TINY = GPT2Config(19, 64, 32, 1, 2)


def test_a_recorded_decode_step_is_equal_to_the_byte(kernels):
    found = SteppedModel(TINY, "float32", kernels).compare(1, 3)
    assert (found.way, found.agrees) == ("recorded", True)
    judged = {held.what for held in found.held if held.judged}
    assert {"weights loaded", "kv_cache stored"} <= judged
    assert {row.component for row in found.rows if row.fma} >= {"attn.c_attn", "lm_head"}


@pytest.mark.parametrize("name", ["qwen3_next", "qwen3_next, mixed", "llama"])
def test_bytes_of_keys_and_values_and_those_of_state_are_apart(name, monkeypatch):
    """As if each step loaded every byte of every array once, and stored it twice."""

    def as_if(function, *args, arrays, **options):
        moved = {key: Moved(x.nbytes, 2 * x.nbytes) for key, x in arrays.items()}
        return function(*args, **options), Ran((), moved, {})

    monkeypatch.setattr(stepped, "executed", as_if)
    values = tiny(name)
    config = config_of(name, values)
    model = SteppedModel(config, "float32", None)
    found = {one.what: one.bytes.executed for one in model.compare(1, 3).held}
    steps = len(model.steps.done)
    state, full = 0, config.layers
    if name != "llama":
        state, full = deltas.held(values, 4), deltas.kinds(values).count("full_attention")
    D = values.get("head_dim", values["hidden_size"] // values["num_attention_heads"])
    positions = values["num_key_value_heads"] * min(4 + 2 * FEW, config.n_positions)
    for kind, nbytes in {"kv_cache": full * positions * 2 * D * 4, "state": state}.items():
        assert found.get(f"{kind} loaded", 0) == steps * nbytes
        assert found.get(f"{kind} stored", 0) == 2 * steps * nbytes


def test_a_row_that_a_kernel_reads_twice_is_found(kernels, monkeypatch):
    alone = matmul._Product.alone

    def twice(self, r):
        with self.b.if_then(self.b.icmp_signed("==", r, matmul.whole(0))):
            alone(self, r)
        alone(self, r)

    monkeypatch.setattr(matmul._Product, "alone", twice)
    wrong, _kept = with_another_product(kernels.lanes)
    found = SteppedModel(TINY, "float32", wrong).compare(1, 3)
    assert found.agrees is False
    assert {row.component for row in found.rows if row.agrees is False} == {"lm_head"}
    assert {h.what.partition(",")[0] for h in found.held if h.agrees is False} == {
        "weights of products loaded",
        "weights loaded",
    }


def test_a_fault_in_the_ledger_is_found(kernels, monkeypatch):
    rule = COSTS[np.matmul]
    monkeypatch.setitem(COSTS, np.matmul, lambda *given: rule(*given) * 2)
    found = SteppedModel(TINY, "float32", kernels).compare(1, 3)
    failing = {row.component for row in found.rows if row.agrees is False}
    assert failing >= {"attn.c_attn", "lm_head"}


def test_numpy_alone_is_stepped_operation_by_operation_and_not_judged():
    found = SteppedModel(TINY, "int8", None, numpy=False).compare(2, 1)
    assert (found.way, found.agrees) == ("reference", None)
    assert {row.agrees for row in found.rows} == {held.agrees for held in found.held} == {None}
    steps = Steps(None)
    x = Stepped(np.ones((2, 24), np.float32), steps, {})
    steps.watching = True
    with scope("here"):
        y = ops.layer_norm(x, x[0], x[1], 1e-5)
    assert {step.path for step in steps.done} == {"here"}
    assert y.shape == x.shape
    ran = sum(step.ran.flops("NumPy") for step in steps.done)
    assert ran >= price(ops.layer_norm.function, (x.data, x.data[0], x.data[0], 1e-5), {}).flops


SMALL = {"vocab_size": 7, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 1, "n_inner": 16}


def test_the_command_shows_a_line_a_component_and_ends_with_0(command, here, monkeypatch):
    def small(config, dtype, machine, seed):
        return SteppedModel(config, dtype, MACHINES[8], seed, numpy=False)

    # NumPy alone takes ten times as long.
    monkeypatch.setattr(verify_machine, "SteppedModel", small)
    monkeypatch.setenv("MINIGPT_FAST", "0")
    (here / "config.json").write_text(json.dumps({"model_type": "gpt2", **SMALL}))
    given = "--machine", "--dtype", "float32", "--past", "2", "--prompt", "2", "--json"
    done = command("verify", "config.json", *given)
    assert done.returncode == 0, done.stderr
    assert "gelu by exp: 22 more an element: 22*n" in done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["agrees"]
    assert {one["way"] for one in told["passes"]} == {"recorded", "kernels"}
    rule = COSTS[np.matmul]
    monkeypatch.setitem(COSTS, np.matmul, lambda *given: rule(*given) * 2)
    done = command("verify", "config.json", *given)
    assert done.returncode == 1
    assert "DIFFERS" in done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["agrees"]
    for one in told["passes"]:
        assert not one["agrees"]
        failing = {row["component"] for row in one["rows"] if row["agrees"] is False}
        assert "attn.c_attn" in failing
        for row in one["rows"]:
            (counted, executed), (others_counted, others) = row["all"], row["others"]
            assert row["difference"] == executed - others - (counted - others_counted)
            said = sum(value for _, _, value in row["reasons"])
            assert row["difference"] == said or row["agrees"] is False
        for held in one["held"]:
            counted, executed = held["bytes"]
            assert held["difference"] == executed - counted
            assert held["agrees"] is (counted == executed if held["judged"] else None)


def test_numpy_alone_is_run_too_where_it_is_asked_for():
    pytest.importorskip("llvmlite")
    kernels = [machine is not None for machine in verify_machine._machines(True)]
    assert kernels in ([True, False], [False])  # this processor may have none
    assert [m is not None for m in verify_machine._machines(False)] == kernels[:1]


def test_numpy_alone_proves_nothing(command, here, monkeypatch):
    monkeypatch.setattr(verify_machine, "SteppedModel", partial(SteppedModel, numpy=False))
    (here / "config.json").write_text(json.dumps({"model_type": "gpt2", **SMALL}))
    given = "--machine", "--dtype", "float32", "--past", "0", "--prompt", "1", "--json"
    monkeypatch.setenv("MINIGPT_FAST", "0")
    done = command("verify", "config.json", *given)
    assert done.returncode == 1
    assert "no kernels, $MINIGPT_FAST is 0: NumPy alone runs" in done.stderr
    assert "nothing was judged" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["agrees"] is None
    monkeypatch.setattr(verify_machine, "missing", lambda: "pip install what is missing")
    done = command("verify", "config.json", *given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "NumPy alone would run: pip install what is missing" in done.stderr


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (["--machine", "--dtype", "float64"], "unknown dtype"),
        (["--machine", "--past", "-1"], "past is -1"),
        (["--seed", "-1"], "seed is -1; it must be a whole number from 0"),
        (["--machine", "--seed", "-1"], "seed is -1; it must be a whole number from 0"),
        (["--tensor-parallel", "2", "--seed", "-1"], "seed is -1; it must be a whole number from"),
        (["--machine", "--peers"], "--peers"),
        (["--reference"], "--reference"),
        (["--dtype", "int8"], "--dtype"),
    ],
)
def test_bad_input_is_one_line(command, given, what):
    done = command("verify", "gpt2", *given)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert what in done.stderr


@pytest.mark.parametrize("lossy", [0, 1, TRIES - 1, TRIES])
def test_a_pass_that_lost_traps_is_stepped_again(monkeypatch, lossy):
    model = SteppedModel(TINY, "float32", None)
    passes = []

    def as_if(function, *args, arrays, **options):
        lost = len(passes) <= lossy
        return function(*args, **options), Ran((), {name: Moved() for name in arrays}, {}, lost)

    def counted(*args):
        passes.append(args)
        return SteppedModel._pass(model, *args)

    monkeypatch.setattr(stepped, "executed", as_if)
    monkeypatch.setattr(model, "_pass", counted)
    if lossy == TRIES:
        with pytest.raises(Unavailable, match="each lost traps"):
            model.compare(1)
    else:
        model.compare(1)
    assert len(passes) == min(lossy + 1, TRIES)

"""The state of linear attention in `count` and `plan`: memory and time apart from the KV cache."""

import json
from unittest import mock

import pytest

from counting.views import matmul
from minigpt.commands import count as count_command
from minigpt.commands import plan as plan_command
from minigpt.models.architectures import PRESETS
from minigpt.models.ops import forward_substitution
from minigpt.planning.forward import Pass, on_shapes, state_bytes
from minigpt.planning.hardware import GPUS
from minigpt.planning.options import Options
from minigpt.planning.plan import plan

NAME = "qwen3-next-80b-a3b"
NEXT = PRESETS[NAME]
STATE = 77_266_944  # 36 layers of 32 x 128 x 128 numbers of 4 bytes, and of 3 x 8192 of 2


def made(model=NAME, gpu="h200", **options):
    return plan(model, PRESETS[model], GPUS[gpu], Options(**options))


@pytest.mark.parametrize(("gpus", "context", "batch"), [(1, 1, 1), (2, 8192, 3), (16, 500, 2)])
def test_a_gpu_holds_its_share_of_the_states_whatever_the_context(gpus, context, batch):
    it = made(gpus=gpus, context=context, batch=batch)
    assert it.memory.state == batch * STATE // gpus
    assert it.memory.kv_cache == batch * context * 24_576 // min(gpus, 2)
    assert it.memory.needed == sum(it.memory)


def test_a_decoded_token_reads_the_state_once_and_writes_it_once():
    it = made(gpus=2, batch=4)
    assert it.first.state_bytes == it.first.estimate.state_bytes == 2 * STATE  # there is none yet
    assert it.last.state_bytes == it.last.estimate.state_bytes == 2 * 2 * STATE
    assert it.prefill.state_bytes == STATE // 2
    moved = it.last.weight_bytes + it.last.kv_bytes + it.last.state_bytes - it.gpu.cache
    assert it.last.memory_s == moved / it.gpu.bandwidth


@pytest.mark.parametrize("T", [1, 100])
def test_the_floor_of_a_prompt_is_without_products_within_a_chunk(T):
    """Those with the state are 6 FLOP for each number of a matrix and token, in any chunks."""
    counts = on_shapes(NEXT.but(num_hidden_layers=4), Pass(T, 0, 1, "last")).counts
    parts = (counts.where(f"*.linear_attn.{name}") for name in ("state", "chunk"))
    state, chunk = (12 * matmul(part) for part in parts)
    assert state == 36 * 6 * T * 32 * 128 * 128
    assert chunk > 0
    it = made(prompt=T)
    assert it.prefill.flops < it.prefill.estimate.flops
    apart = it.prefill.estimate.flops - it.prefill.flops
    assert (apart == chunk) == (T == 1)  # of a longer one the last block is left out too
    assert apart >= chunk


def test_both_say_it_in_json_and_in_words_and_of_other_models_nothing(capsys, tmp_path):
    few = {"num_hidden_layers": 4, "num_experts": 12}
    state = 3 * STATE // 36
    (tmp_path / "config.json").write_text(json.dumps(NEXT.values() | few))
    small = str(tmp_path)
    plan_command.run(small, "h200", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["memory_of_each_gpu"]["state"] == state
    assert told["decode_at_context"]["state_bytes"] == 2 * state
    assert any("state of linear attention" in line for line in told["assumptions"]["memory"])
    count_command.run(small, Pass(N=1000, B=2), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["state_bytes"] == told["peak_bytes"]["state"] == 2 * state
    assert told["kv_bytes_per_token"] == 24_576 // 12
    for model, times in ((small, 1), ("qwen3-0.6b", 0)):
        count_command.run(model, Pass(N=10))
        assert capsys.readouterr().out.count("\nstate ") == times
        plan_command.run(model, "h200")
        assert capsys.readouterr().out.count("\nstate ") == times * 2
    assert state_bytes(PRESETS["qwen3-0.6b"]) == made("qwen3-0.6b").memory.state == 0


def test_a_long_prompt_is_priced_by_one_chunk_of_each_length():
    """Of 79 chunks in each of 6 layers two lengths occur; a price is a run and its trace."""
    times, code = 0, forward_substitution.function

    def noted(*operands):
        nonlocal times
        times += 1
        return code(*operands)

    with mock.patch.object(forward_substitution, "function", noted):
        counts = on_shapes(NEXT.but(num_hidden_layers=8), Pass(5001)).counts
    assert times == 2 * 2
    solved = counts.where("*.chunk", "forward_substitution")
    assert solved.total("calls") == 6 * sum(2 + 3 * (C - 1) for C in (*[64] * 78, 9))

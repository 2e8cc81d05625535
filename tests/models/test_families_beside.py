"""Every family beside transformers: what it says, what it computes, what it saves and caches."""

import pytest
from families import CASES, kind, read, small
from families_beside import compared, their_config

# Passes of new tokens: a prompt at once; in chunks, of which one is longer than a window of 4;
# then token by token until its ring has gone round twice.
RUNS = {"prefill": [10], "chunks": [3, 1, 5, 1], "decode": [2, *[1] * 8]}


@pytest.fixture(scope="module", autouse=True)
def one_thread(torch):
    """Threads of PyTorch's that wait for each other take many times as long as one alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=CASES)
def both(torch, request, tmp_path_factory):
    """Of each case, what both models did."""
    name = request.param
    return name, compared(name, small(name), RUNS, tmp_path_factory.mktemp("saved"))


def test_logits_are_those_of_transformers(both):
    assert both[1].errors.keys() == RUNS.keys()
    for run, error in both[1].errors.items():
        assert error < 1e-4, run


def test_products_take_what_the_flop_counter_of_torch_sees(both):
    for theirs, ours, on_shapes in both[1].flops:
        assert theirs == ours == on_shapes


def test_what_transformers_saves_is_what_the_model_asks_for(both):
    shapes = {key: tensor.shape for key, tensor in both[1].tensors.items()}
    assert both[1].config.shapes() == shapes
    assert both[1].config.parameters == sum(tensor.size for tensor in both[1].tensors.values())


def test_nothing_that_transformers_writes_is_uncomputed(both):
    assert both[1].config.uncomputed == ()


def test_a_file_as_given_is_read_as_what_transformers_makes_of_it(both):
    name, beside = both
    given = read(name, small(name))
    assert given == beside.config
    assert given.uncomputed == ()
    assert read(name, their_config(name, small(name)).to_dict()) == given


def test_a_cache_holds_what_that_of_transformers_holds(both):
    name, beside = both
    config = beside.written
    again = 1  # Falcon's caches the keys of a group once for each of its queries
    if kind(name) == "falcon" and config["new_decoder_architecture"]:
        again = config["num_attention_heads"] // config["num_kv_heads"]
    for theirs, ours, window in beside.bytes:
        if window is None:
            assert theirs == ours * again
        else:  # of the window, it keeps those before the token that comes next
            assert theirs * window == ours * (window - 1)

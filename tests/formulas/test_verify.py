"""Witnesses agree; a wrong one is caught, with the smallest case."""

import io
import json
import re
import tomllib

import numpy as np
import pytest
from checkpoints import ROOT
from rich.console import Console

from counting import COSTS, Cost
from counting.views import matmul
from minigpt.commands.verify import document, run, tables
from minigpt.errors import InputError
from minigpt.formulas import other_counters as peers
from minigpt.formulas import verify as room
from minigpt.formulas.other_counters import PEERS, Traced, installed, panel
from minigpt.formulas.verify import Case, Verification, Witness, verify
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.forward import Pass, forward

SMALL = GPT2Config(vocab_size=11, n_positions=8, n_embd=6, n_layer=2, n_head=3)
ONE = Case(B=1, T=1, N=0, L=1, H=1, D=1, F=1, V=1, C=1)


@pytest.fixture(scope="module")
def found():
    return verify(SMALL, "small", seed=1)


@pytest.mark.peers
def test_every_witness_agrees(found):
    assert found.agrees
    assert all(witness.agrees for witness in found.witnesses)
    assert {claim.n for claim in found.claims} == {1, 8}


def test_the_same_seed_draws_the_same_cases():
    a, b = ([room._draw(room.random.Random(7), 9, 2)] for _ in range(2))
    assert a == b


@pytest.fixture
def alone(monkeypatch):
    """Without the slow witness that needs another package."""
    monkeypatch.setattr(room, "_torch", lambda *work: Witness("torch", skipped="not here"))


TINY = [room._draw(room.random.Random(1), 4, 2) for _ in range(5)]


@pytest.mark.parametrize(
    ("function", "rule", "difference"),
    [
        (np.exp, lambda out, a: Cost(exp=2 * out[-1]), "exp: 2 against 1"),
        (np.add, lambda out, *operands: Cost(), "add: "),
        (np.matmul, lambda out, a, b: Cost(fma=out[-1] * a[-1] + 1), "fma: "),
    ],
)
def test_a_wrong_row_of_costs_is_caught_with_a_smallest_case(
    monkeypatch, function, rule, difference
):
    monkeypatch.setitem(COSTS, function, rule)
    witness = room._try("oracle", room._oracle, TINY)
    assert not witness.agrees
    case, told = witness.smallest
    assert told.startswith(difference)
    assert case.numbers == ONE.numbers


def test_a_case_is_made_as_small_as_it_stays_wrong():
    big = Case(B=5, T=7, N=9, L=2, H=3, D=8, F=20, V=9, C=18)
    case, _ = room._shrink(big, lambda case: "wrong" if case.F > 6 and case.N else "")
    assert case.numbers == ONE.numbers | {"F": 7, "N": 1, "C": 2}


def test_differences_are_told_with_their_place():
    assert room._differ({"a": {"b": 1}}, {"a": {"b": 2}}) == "a b: 1 against 2"
    assert room._differ({"a": {"b": 1}}, {"a": {"b": 1}}) == ""
    assert room._differ({"a": 1}, {"b": 1})


def test_the_allocator_is_a_witness_of_its_own(monkeypatch):
    case = Case(B=2, T=1, N=0, L=2, H=2, D=3, F=5, V=7, C=4)
    assert room._allocator(case) == ""

    class Larger(GPT2):
        def new_cache(self, batch, capacity):
            cache = super().new_cache(batch, capacity)
            cache.hidden = np.empty(1000, np.float32)
            return cache

    monkeypatch.setattr(room, "build", Larger)
    assert room._allocator(case).startswith("bytes: ")


def test_an_absent_peer_is_skipped_visibly(monkeypatch):
    monkeypatch.setattr(room, "installed", lambda *packages: False)
    witness = room._torch("a model", room._torch_of_gpt2, TINY)
    assert witness.agrees
    assert (
        "not installed"
        in document(Verification("small", 1, [witness], []))["witnesses"][0]["skipped"]
    )


@pytest.mark.parametrize(
    "options", [{"prompt": 9}, {"prompt": 0}, {"past": 8}, {"past": -1}, {"seed": -1}]
)
def test_what_cannot_be(options):
    with pytest.raises(InputError):
        verify(SMALL, **options)


def test_the_command(capsys, alone):
    assert run("gpt2-xl", seed=5, as_json=True) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert told["agrees"] is True
    assert (told["model"], told["seed"]) == ("gpt2-xl", 5)
    assert told["schema"] == 1
    assert "seed 5" in shown[0]
    assert any("2 d² V should be 2 d V" in line for line in shown)
    at_full = [c["n"] for c in told["published"]]
    assert set(at_full) == {1, 1024}
    (eq,) = (c for c in told["published"] if "eq. 2.2" in c["where"] and c["n"] == 1024)
    assert (eq["view"], eq["scope"], eq["scores"], eq["mode"]) == (
        "matmul",
        "mean",
        "causal",
        "forward",
    )
    assert eq["executed"] == 24 * 48 * 1600**2 + 2 * 48 * 1600 * 1025 + 2 * 1600 * 50257
    headline = told["published"][1]
    assert headline["executed"] == 3_424_515_200


def test_a_witness_that_differs_makes_the_status_1(monkeypatch, forgotten, alone, capsys):
    monkeypatch.setitem(COSTS, np.exp, lambda out, a: Cost(exp=2 * out[-1]))
    assert run("gpt2", prompt=1, seed=1, as_json=True) == 1
    *shown, last = capsys.readouterr().out.splitlines()
    assert any("DIFFERS" in line for line in shown)
    told = json.loads(last)
    assert told["agrees"] is False
    assert told["witnesses"][0]["smallest_case"]["D"] == 1


# Other counters.


def test_a_counter_that_is_not_there_is_named_with_the_way_to_it(monkeypatch):
    monkeypatch.setattr(peers, "installed", lambda package: package != "fvcore")
    for name in ("torch_flops", "_calflops", "_jax"):
        monkeypatch.setattr(peers, name, lambda *a: 1)
    monkeypatch.setattr(
        peers, "PEERS", [p._replace(report=p.report and (lambda *work: 1)) for p in PEERS]
    )
    rows = panel(*WORKS[0])
    assert {row.name: row.missing for row in rows if row.missing} == {
        "fvcore FlopCountAnalysis": ("fvcore",)
    }
    shown = io.StringIO()
    skipped = Witness("torch", skipped=f"not installed; {peers.INSTALL}")
    Console(file=shown, width=200).print(tables(Verification("small", 1, [skipped], [], rows)))
    told = shown.getvalue()
    assert "not installed: fvcore; pip install -e '.[counters]' in the clone" in told
    assert "skipped: not installed; pip install -e '.[counters]' in the clone" in told


def test_the_extra_brings_what_every_counter_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.split(r"[<>=]", name)[0] for name in project["optional-dependencies"]["counters"]}
    assert {package for peer in PEERS for package in peer.needs} == extra


WORKS = [(SMALL, Pass(3, 2)), (SMALL, Pass(4, 0, B=2)), (SMALL, Pass(1, 7))]


@pytest.mark.parametrize("peer", [p for p in PEERS if p.report], ids=lambda peer: peer.name)
@pytest.mark.parametrize("work", WORKS, ids=["chunk", "prefill", "decode"])
def test_what_a_peer_reports_is_made_of_our_counts(peer, work):
    if not installed(*peer.needs):
        pytest.skip(f"{', '.join(peer.needs)} are not all installed")
    row = next(row for row in panel(*work) if row.name == peer.name)
    known = {row.predicted}
    if "sdpa" in peer.name:  # later than 2.13, PyTorch knows that kernel
        known.add(matmul(forward(*work).counts))
    assert row.reported in known


def test_the_panel_tells_the_deviations_that_are_known():
    told = {row.name: row.deviation for row in panel(GPT2Config(), Pass(N=1023))}
    known = {
        "torch FlopCounterMode, eager": 0,
        "torch FlopCounterMode, sdpa on CPU": -13.25,
        "calflops": 0.11,
        "JAX cost_analysis": 0.5,
    }
    for name, percent in known.items():
        assert told[name] == pytest.approx(percent, abs=0.01)


def test_a_traced_array_ends_where_its_axis_does():
    class Clamped(list):
        """As JAX's arrays: an index past the end gives the last."""

        def __getitem__(self, index):
            return super().__getitem__(min(index, len(self) - 1))

    a, b = Traced(Clamped([1, 2]))
    assert (a.data, b.data) == (1, 2)


def test_the_traced_array_hands_numpy_on():
    x = Traced(np.arange(6.0).reshape(2, 3))
    assert x.shape == (2, 3)
    assert x.T.shape == (3, 2)
    assert x[0].data.tolist() == [0, 1, 2]
    assert x.max(axis=-1).data.tolist() == [2, 5]

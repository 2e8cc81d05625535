"""What devices send each other in closed form: against data, parts on shapes, and algebra."""

import json
import random
import re
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import sympy
from checkpoints import minigpt
from rings import on_each

from counting import Counted, Ledger, category
from counting.views import flops
from minigpt.commands.verify_wire import run
from minigpt.errors import InputError
from minigpt.formulas import ring as rings
from minigpt.formulas import verify_wire as room
from minigpt.formulas import wire as forms
from minigpt.formulas.notation import plain
from minigpt.formulas.published_wire import OF_THE_WIRE, SOURCES_OF_THE_WIRE
from minigpt.formulas.ring import WIRE, Disproved, P, Work, law, n, of_device, r
from minigpt.formulas.symbols import sizes
from minigpt.formulas.verify_wire import MEASURES, differs, published, verify_wire
from minigpt.formulas.wire import wire
from minigpt.models.architectures import PRESETS
from minigpt.models.gpt2_config import GPT2Config
from minigpt.parallel.collectives import all_gather, all_reduce
from minigpt.parallel.divide import build_part, cut, divided
from minigpt.planning.devices import Split, on_devices, sent_by
from minigpt.planning.forward import Pass

NAMES = ["gpt2-xl", "llama-3.1-8b", "deepseek-v3", "falcon-7b", "gemma-3-4b"]


# The ring.


@pytest.mark.parametrize("seed", range(12))
def test_each_device_of_a_ring_does_with_data_what_its_closed_form_says(seed):
    rng = random.Random(seed)
    size, itemsize = rng.randint(1, 9), rng.choice((2, 4, 8))
    numbers, rows = rng.choice((size * rng.randint(1, 9), rng.randint(0, 99))), rng.randint(1, 4)
    widths = [rings.chunk(numbers, i, size) for i in range(size)]
    assert (sum(widths), max(widths) - min(widths) <= 1) == (numbers, True)

    def both(ring):
        ledger = Ledger(WIRE)
        x = np.ones(numbers, f"f{itemsize}")
        all_reduce(Counted(x, ledger), ring)
        summed = ledger.snapshot()
        columns = np.ones((rows, widths[ring.rank]), x.dtype)
        all_gather(Counted(columns, ledger), widths, ring)
        return summed, ledger.snapshot() - summed

    did = on_each(size, both)
    for operation, times, of_it in (("all_reduce", 1, 0), ("all_gather", rows, 1)):
        mean = law(operation)
        total = [0, 0]
        for rank, counts in enumerate(each[of_it] for each in did):
            work = of_device(operation, numbers, rank, size)
            sent = sum(sent_by(counts).values())
            assert (sent, flops(counts)) == (itemsize * times * work.sent, times * work.added)
            total = [a + b for a, b in zip(total, work, strict=True)]
        at = {n: numbers, r: sympy.Rational(size - 1, size)}
        assert total == [size * sympy.sympify(e).xreplace(at) for e in mean]
        if numbers % size == 0:
            assert {of_device(operation, numbers, rank, size) for rank in range(size)} == {
                Work(*(sympy.sympify(e).xreplace(at) for e in mean))
            }


@pytest.mark.parametrize("seed", range(2))
def test_on_a_symbol_a_ring_does_so_for_every_number(seed):
    size = (rng := random.Random(seed)).randint(6, 11)
    for operation in ("all_reduce", "all_gather"):
        rank = rng.randrange(size)
        pair = rings._executed(operation, rank, size), of_device(operation, n, rank, size)
        for one, other in zip(*pair, strict=True):
            assert sympy.expand(one - other) == 0


@pytest.fixture
def afresh():
    """A ring that a test changes is read off in it, and not kept."""
    for kept in (law, wire):
        kept.cache_clear()
    yield
    for kept in (law, wire):
        kept.cache_clear()


@pytest.mark.parametrize(
    "other",
    [
        lambda x, ring: all_reduce(all_reduce(x, ring), ring),
        lambda x, ring: all_reduce(x[: n // 2], ring),
        lambda x, ring: all_reduce(x, ring) if ring.size < 4 else x,
        lambda x, ring: x if ring.rank == 1 else all_reduce(x, ring),
    ],
)
def test_a_ring_that_does_otherwise_is_found(monkeypatch, afresh, other):
    monkeypatch.setattr(rings, "all_reduce", other)
    with pytest.raises(Disproved, match="all_reduce"):
        law("all_reduce")


# The parts of a model.


def small(name, rng):
    """A random model of the kind of another, and a pass; its vocabulary four devices can share."""
    while True:
        case = room._draw(PRESETS[name], rng)
        if case.config.vocab_size >= 4:
            return case


@pytest.mark.parametrize("name", NAMES)
def test_parts_on_data_send_what_the_closed_form_says(name):
    rng = random.Random(name)
    case, size = small(name, rng), rng.randint(2, 4)
    config, of, drawn = case.config, case.sizes, np.random.default_rng(0)
    shapes = config.shapes().items()
    weights = {key: drawn.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes}
    tokens = drawn.integers(config.vocab_size, size=(of.B, of.T))

    def pass_of(ring):
        part, ledger = divided(config, ring.rank, size), Ledger(WIRE)
        asked = part.shapes()
        with category("weights"):
            held = {key: Counted(cut(weights[key], asked[key]), ledger) for key in asked}
        model = build_part(config, part, held, ring)
        cache = model.new_cache(of.B, of.T)
        before = ledger.snapshot()
        model(Counted(tokens, ledger), cache, of.logits)
        return ledger.snapshot() - before

    at = {"B": of.B, "T": of.T, **sizes(config)}
    for rank, counts in enumerate(on_each(size, pass_of)):
        form = wire(PRESETS[name], of.logits).device(rank, size, at)
        assert {k: nbytes for k, nbytes in sent_by(counts).items() if nbytes} == {
            k: 4 * work.sent for k, work in form.items() if work.sent
        }
        added = flops(counts.where("*.all_reduce"))
        assert added == sum(work.added for work in form.values())


@pytest.mark.parametrize("name", NAMES)
def test_each_device_on_shapes_sends_what_the_closed_form_says(name):
    rng = random.Random(f"shapes {name}")
    logits = rng.choice(("all", "last"))
    for size in (1, rng.randint(2, 7), 8):
        of = Pass(rng.randint(1, 9), rng.randint(0, 99), rng.randint(1, 3), logits)
        assert differs(PRESETS[name], of, size) == ""


def test_the_only_head_of_a_model_is_a_part_of_one_device_and_summed_like_others():
    rng, case = random.Random(1), None
    while case is None or case.config.num_attention_heads > 1:
        case = small("falcon-7b", rng)
    assert differs(case.config, case.sizes, 3) == ""


def test_a_device_that_does_otherwise_is_found(monkeypatch):
    config, of = PRESETS["llama-3.2-1b"], Pass(2)
    assert differs(config, of, 5) == ""
    monkeypatch.setattr(rings, "chunk", lambda n, i, size: n // size)  # as if it always divided
    assert differs(config, of, 8) == ""
    assert re.match(r"device \d of 5: ", differs(config, of, 5))


def test_arrays_of_another_size_have_no_form(monkeypatch):
    of, config = forms.symbolic(PRESETS["gpt2"]), GPT2Config(11, 5, 6, 1, 3)
    assert forms._found(of, config, 2, "all", "float32") == wire(PRESETS["gpt2"]).collectives
    monkeypatch.setattr(GPT2Config, "width", 5)
    with pytest.raises(Disproved, match=r"wte.all_reduce: 6.*are no rows of a width"):
        forms._found(of, config, 2, "all", "float32")


def test_whole_forms_are_what_a_person_would_write():
    [(gpt2, of_gpt2), (deepseek, of_deepseek)] = (
        (sum(work.sent for work in form.by_role.values()), form)
        for form in map(wire, (PRESETS["gpt2"], PRESETS["deepseek-v3"]))
    )
    assert plain(sympy.expand(gpt2 / r)) == "B T (4 L d + 2 d + V)"
    assert plain(sympy.expand(deepseek / r)) == "B T (4 L_dense d + 6 L_experts d + 2 d + V)"
    assert {c.operation for c in of_gpt2.collectives if c.role != "head"} == {"all_reduce"}
    assert [c.role for c in of_deepseek.collectives].count("shared") == 1


# What is published.


def test_the_term_of_the_issue_is_what_all_devices_send_in_a_layer_of_gpt2_and_llama():
    [row] = [row for row in OF_THE_WIRE if row.formula == "4*L*(P - 1)*d"]
    for name in ("gpt2", "llama-3.1-8b"):
        form = wire(PRESETS[name])
        said, ours = room.claimed(row, form), sum(room.executed(row, form).values())
        whole = 4 * (P - 1) * form.of.config.width * sum(form.of.times.values())
        assert sympy.expand(said - ours) == sympy.expand(ours - whole) == 0


def measured(row, config, size, of):
    """What parts on shapes do of what a row is of: the mean of all devices, or all of them."""
    role, total = wire(config).of.roles.part_of, Counter()
    for device in on_devices(config, of, Split(size)):
        for path, counts in device.counts.where("*.all_*").by(str).items():
            module, _, operation = path.rpartition(".")
            if row.part and role(module) not in row.part:
                continue
            passed = counts.where(operation="*.pass_on")
            total["bytes sent"] += sum(passed.bytes_read.values())
            total["additions"] += flops(counts)
            if operation == "all_reduce":
                total["sums"] += Fraction(passed.total("calls"), 2 * (size - 1))
    total["numbers sent"] = Fraction(total["bytes sent"], of.itemsize)
    return total[row.of] / (1 if row.per == "1/P" else Fraction(size))


def value(text, at):
    """What an expression comes to, as it is written: - 4 L d, or B T (2 d + V)."""
    return eval(re.sub(r"(?<=[\w)]) (?=[\w(])", "*", text), {}, at)


def told(reason, at):
    """By how much a formula says too much, by one line about it."""
    what, _, why = reason.rpartition(": ")
    if " should be " in what:
        said, ours = what.split(" should be ")
        return value(said, at) - value(ours, at)
    kind, _, term = what.partition(" ")
    if kind in ("missing", "extra"):
        return value(term, at) * (1 if kind == "extra" else -1)
    share = "1/2" if why.startswith("half of") else why.partition(" times ")[0]
    return (Fraction(share) - 1) * value(what, at)


@pytest.mark.parametrize("name", ["gpt2-xl", "llama-3.1-8b", "deepseek-v3"])
def test_a_published_formula_and_its_differences_come_to_what_is_executed(name):
    rng, config = random.Random(f"published {name}"), PRESETS[name]
    size, of = rng.randint(2, 9), Pass(rng.randint(2, 5), rng.randint(0, 9), rng.randint(2, 3))
    exact = 0
    for claim in published(wire(config), config, size, of):
        row = claim.published
        once = row.scope == "token"
        at = {"r": Fraction(size - 1, size), "P": Fraction(size), "V": config.vocab_size}
        at |= {"B": 1 if once else of.B, "T": 1 if once else of.T, "d": config.width}
        at |= {"L": config.layers, **sizes(config)}
        executed = measured(row, config, size, Pass() if once else of)
        assert claim.value == pytest.approx(float(value(row.formula, at)), rel=1e-12)
        assert claim.executed == pytest.approx(float(executed), rel=1e-12)
        assert value(claim.executed_form, at) == executed
        assert value(row.formula, at) - executed == sum(told(line, at) for line in claim.reasons)
        assert bool(claim.reasons) == (claim.value != claim.executed)
        exact += not claim.reasons
    assert exact == (3 if name == "deepseek-v3" else 9)


@pytest.mark.parametrize("row", OF_THE_WIRE, ids=lambda row: f"{row.source} {row.where}")
def test_rows_are_whole(row):
    assert row.source in SOURCES_OF_THE_WIRE
    assert row.of in MEASURES
    assert set(re.findall(r"[A-Za-z]+", row.formula)) <= set("LdVBTP")
    assert set(row.part) <= room.WHAT.keys()


# The command.


def test_the_command(capsys, monkeypatch):
    assert run("gpt2", 3, prompt=2, seed=1, as_json=True) == 0
    *shown, last = capsys.readouterr().out.splitlines()
    found, text = json.loads(last), "\n".join(shown)
    assert (found["agrees"], found["devices"], found["seed"]) == (True, 3, 1)
    assert len(found["published"]) == len(OF_THE_WIRE)
    assert "r B T (4 L d + 2 d + V)" in text
    devices = on_devices(PRESETS["gpt2"], Pass(2), Split(3))
    for operation, sent in found["bytes_sent"].items():
        each = [device.sent[operation] for device in devices]
        assert sent == {"least": min(each), "mean": sum(each) / 3, "most": max(each)}
    monkeypatch.setattr(rings, "chunk", lambda n, i, size: n // size)
    monkeypatch.setattr(room, "CASES", 1)
    assert run("gpt2", 3, seed=1, as_json=True) == 1
    *_, last = capsys.readouterr().out.splitlines()
    [_, whole] = json.loads(last)["witnesses"]
    assert re.match(r"device \d of 3: ", whole["difference"])


@pytest.mark.parametrize(
    ("room_of", "name", "other", "said"),
    [
        (rings, "all_reduce", lambda x, ring: all_reduce(x[: n // 2], ring), "all_reduce on 2 dev"),
        (forms, "law", lambda operation: Work(n * r, 0), "wte.all_reduce: .* are no rows of a wid"),
        (forms, "_found", lambda of, small, size, *_: (size,), "of other sizes or on other device"),
    ],
)
def test_a_wrong_assumption_is_a_witness_that_differs(
    capsys, monkeypatch, afresh, room_of, name, other, said
):
    monkeypatch.setattr(room_of, name, other)
    assert run("gpt2", 2, seed=1, as_json=True) == 1
    *shown, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert "A WITNESS DIFFERS" in "\n".join(shown)
    assert (told["agrees"], told["devices"], told["published"]) == (False, 2, [])
    assert all(re.match(said, witness["difference"]) for witness in told["witnesses"])


def test_one_device_sends_nothing(capsys):
    assert run("gpt2", 1, seed=1, as_json=True) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {sent["most"] for sent in found["bytes_sent"].values()} == {0}


@pytest.mark.parametrize(
    ("model", "asked", "wrong"),
    [
        ("gpt2", {"size": 0}, "tensor parallel is 0; it must be 1 to 256"),
        ("gpt2", {"size": 2, "past": 1024}, "the model's context is 1024"),
        ("gpt2", {"size": 2, "seed": -1}, "seed is -1; it must be a whole number from 0"),
        ("qwen3-next-80b-a3b", {"size": 2}, "has no closed forms"),
        ("no-such-model", {"size": 2}, "no-such-model"),
    ],
)
def test_what_cannot_be_is_said(model, asked, wrong):
    with pytest.raises(InputError, match=wrong):
        run(model, **asked)


def test_options_that_do_nothing_beside_it_are_refused(tmp_path):
    ran = minigpt("verify", "--tensor-parallel", "2", "--peers", cwd=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, b"")
    assert "--peers would do nothing beside --tensor-parallel" in ran.stderr.decode()


def test_more_devices_than_tokens_are_refused():
    config = GPT2Config(3, 9, 6, 1, 3)
    with pytest.raises(InputError, match="cannot share a vocabulary of 3 tokens"):
        verify_wire(config, "small", 4, Pass())

"""The witnesses of every model that has a name, and of every family as its config.json may be."""

import json
import random
from dataclasses import replace

import families
import pytest

from minigpt.commands.verify import run
from minigpt.formulas.closed_forms import formulas
from minigpt.formulas.decoders import closed, oracle, shapes, torch_flop
from minigpt.formulas.drawn import draw
from minigpt.formulas.layers import kinds, one_of_each
from minigpt.formulas.other_counters import installed
from minigpt.formulas.symbols import symbolic
from minigpt.models.architectures import PRESETS
from minigpt.models.decoder_config import DecoderConfig

SEED = random.randrange(2**32)
READ = {name: families.read(name, families.small(name)) for name in families.CASES}
DECODERS = {
    name: config
    for name, config in [*((name, PRESETS[name]) for name in PRESETS), *READ.items()]
    if isinstance(config, DecoderConfig) and not config.state_heads  # which is refused by name
}
OF_A_KIND = {  # one model for each set of letters of a family: sizes do not matter
    (config.family.reader, *symbolic(config).legend): name
    for name, config in DECODERS.items()
    if name in PRESETS
}
CHOSEN = random.Random(SEED).sample([*OF_A_KIND.values()], 10)


def drawn(name, cases):
    rng = random.Random(f"{name} {SEED}")
    return [draw(one_of_each(DECODERS[name]), rng) for _ in range(cases)]


def hold(compare, cases):
    for case in cases:
        pairs = compare(case)
        ours, theirs = ({key: pair[i] for key, pair in pairs.items()} for i in (0, 1))
        assert ours == theirs, f"{case}, seed {SEED}"


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_drawn_has_the_kinds_of_layers_of_the_model(name):
    base = DECODERS[name]
    few = one_of_each(base)
    assert few.blocks == tuple(kinds(base))
    for case in drawn(name, 3):
        assert len(kinds(case.config)) == len(kinds(base))


@pytest.mark.parametrize("name", DECODERS)
def test_scalars_numbers_and_shapes_agree(name):
    oracles, others = drawn(name, 1), drawn(name, 2)
    hold(oracle, oracles)
    hold(shapes, others)


@pytest.mark.skipif(
    not installed("torch", "transformers"), reason="torch and transformers are not installed"
)
@pytest.mark.parametrize("name", DECODERS)
def test_flop_counter_mode_agrees(name):
    hold(torch_flop, drawn(name, 1))


def test_closed_forms_agree():
    for name in CHOSEN:
        form = formulas(DECODERS[name], dtype="float16")
        cases = [replace(case, logits="all") for case in drawn(name, 10)]
        hold(lambda case, form=form: closed(case, form), cases)


@pytest.mark.peers
def test_the_command(capsys):
    for name in CHOSEN[:2]:
        assert run(name, prompt=1, past=3, seed=SEED, as_json=True) == 0, f"{name}, seed {SEED}"
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert told["agrees"] is True
        assert all(witness["cases"] or witness.get("skipped") for witness in told["witnesses"])

"""How counts, plans and steps look in a notebook: what their fields say, in whole numbers."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from counting.views import flops
from minigpt import generate, load
from minigpt.checkpoint.resolve import resolve
from minigpt.planning.accelerators import GPUS
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.options import Options
from minigpt.planning.plan import plan

MODELS = ("gpt2", "llama-3.1-8b", "mixtral-8x7b", "qwen3-next-80b-a3b")


def shown(found):
    """What it looks like, as a tree and as text."""
    html = found._repr_html_()
    assert not re.search(r"<script|src=|href=|url\(|https?:", html)
    tree = ElementTree.fromstring(f"<div>{html}</div>")
    return tree, " ".join(tree.itertext())


def rows(tree):
    [table] = tree.iter("table")
    return [[cell.text for cell in row] for row in table.find("tbody")]


@pytest.mark.parametrize("seed", range(4))
def test_a_count_shows_its_components_and_its_peak(seed):
    rng = np.random.default_rng(seed)
    sizes = Pass(*map(int, rng.integers(1, 200, 2)), B=int(rng.integers(1, 4)))
    found = count(str(rng.choice(MODELS)), sizes)
    tree, text = shown(found)
    (_, total, *_), *parts = rows(tree)
    assert total == f"{flops(found.counts):,}"
    assert [row[0] for row in parts] == [name for name, _ in found.rows("component")]
    top = [int(row[1].replace(",", "")) for row in parts if not row[0].startswith(" ")]
    assert sum(top) == flops(found.counts)
    for name, n in found.peak_bytes.items():
        assert (f"{name} {n:,} B" in text) == (n > 0)


@pytest.mark.parametrize("seed", range(4))
def test_a_plan_shows_whether_it_fits_its_memory_and_its_times(seed):
    rng = np.random.default_rng(seed)
    model, gpu = str(rng.choice(MODELS)), GPUS[str(rng.choice([*GPUS]))]
    made = plan(model, resolve(model), gpu, Options(batch=int(rng.integers(1, 9))))
    tree, text = shown(made)
    assert ("does not fit" in text) == (not made.may_fit)
    assert (f"at most {made.largest_batch:,} sequences" in text) == made.fits
    for name, n in made.memory._asdict().items():
        assert (f"{name} {n:,} B" in text) == (n > 0)
    times = [(float(row[1]), row[3]) for row in rows(tree)]
    wanted = [made.first, made.last, made.prefill]
    assert times == [(float(f"{1000 * of.seconds:.3g}"), of.binds) for of in wanted]


def test_a_step_shows_its_token_its_pass_and_what_is_alive():
    for step in generate(load(), "<b>ROMEO</b>:", max_new_tokens=3, seed=1):
        tree, text = shown(step)
        assert f"{step.text!r}, token {step.token} at {step.position}: {step.phase}" in text
        (_, total, *_), *parts = rows(tree)
        assert total == f"{step.flops:,}"
        assert sum(int(row[1].replace(",", "")) for row in parts) == step.flops
        assert f"kv_cache {step.live_bytes['kv_cache']:,} B" in text

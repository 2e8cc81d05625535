"""What two recorded runs differ in: what was asked for, and what it cost."""

from typing import Any

from minigpt.errors import InputError
from minigpt.formulas.difference import Name, Pair, beside, roles
from minigpt.models.paths import component
from minigpt.recording.read import Recording

PHASES = ("cache", "prefill", "decode")
APART = ("type", "recording", "schema", "started", "live_bytes", "prompts")
"""Fields of the first line that differ anyway, or are told in another way."""


def asked(a: Recording, b: Recording) -> dict[str, Pair]:
    """By name, what the first lines differ in; how many tokens there were, too.

    What is in an object has a name like `config.n_layer`; None stands for what is not there.
    """
    of = [_asked(one) for one in (a, b)]
    both = {name: Pair(*(each.get(name) for each in of)) for name in of[0] | of[1]}
    return {name: pair for name, pair in both.items() if pair.a != pair.b}


def _asked(one: Recording) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in one.header.items():
        if name not in APART:
            within = value.items() if isinstance(value, dict) else ()
            found |= {f"{name}.{inner}": said for inner, said in within} or {name: value}
    prompts = one.header["prompts"]
    return found | {
        "prompts": [prompt["text"] for prompt in prompts],
        "prompt tokens": sum(len(prompt["tokens"]) for prompt in prompts),
        "tokens generated": len(one.tokens),
    }


def phases(a: Recording, b: Recording) -> dict[str, dict[str, Pair]]:
    """What each phase did in all, of a run too that did not end.

    "seconds a token" is None where there are none.
    """
    found = {}
    for phase in PHASES:
        of = [_phase(one, phase) for one in (a, b)]
        if any(each["passes"] for each in of):
            found[phase] = {name: Pair(*(each[name] for each in of)) for name in of[0]}
    return found


def _phase(one: Recording, phase: str) -> dict[str, Any]:
    passes = [line for line in one.passes if line["phase"] == phase]
    tokens = sum(line["batch"] * line["new_tokens"] for line in passes)
    moved = [line[way] for line in passes for way in ("bytes_read", "bytes_written")]
    seconds = sum(line["seconds"] for line in passes)
    return {
        "passes": len(passes),
        "tokens": tokens,
        "flops": sum(line["flops"] for line in passes),
        "bytes": sum(n for by_category in moved for n in by_category.values()),
        "seconds": seconds,
        "seconds a token": seconds / tokens if tokens else None,
    }


def components(a: Recording, b: Recording) -> dict[str, dict[str, dict[str, Pair]]]:
    """By phase, component and figure, as `beside` gives them; nothing where a run did not end.

    Components have the names of modules; in two architectures those that formulas have for both.
    """
    if not (a.end and b.end):
        return {}
    names = _names(a, b)
    found = {phase: beside(a.counts(phase), b.counts(phase), names) for phase in PHASES}
    return {phase: parts for phase, parts in found.items() if parts}


def _names(a: Recording, b: Recording) -> tuple[Name, Name]:
    kinds = [one.header["config"].get("model_type") for one in (a, b)]
    if kinds[0] == kinds[1]:
        return component, component
    try:
        return roles(a.config, b.config)
    except InputError:  # a model has no closed forms, or none here
        return component, component


def memory(a: Recording, b: Recording) -> dict[str, Pair]:
    """The most bytes alive at once, by category; of a run that did not end, so far."""
    of = [_peak(one) for one in (a, b)]
    both = {name: Pair(*(each.get(name, 0) for each in of)) for name in of[0] | of[1]}
    return {name: pair for name, pair in both.items() if any(pair)}


def _peak(one: Recording) -> dict[str, int]:
    last = one.end or (one.tokens[-1] if one.tokens else {"peak_bytes": one.header["live_bytes"]})
    peak: dict[str, int] = last["peak_bytes"]
    return peak

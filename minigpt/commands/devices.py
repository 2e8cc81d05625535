"""`minigpt count --tensor-parallel N --pipeline S --experts E`: what each device has of a pass."""

import json
from collections import Counter
from dataclasses import replace
from typing import Any

from counting.table import table
from counting.views import flops, matmul
from minigpt.commands.terminal import console, doing
from minigpt.models.config import Config
from minigpt.notes import note
from minigpt.planning.count import config_for
from minigpt.planning.devices import Device, Split, on_devices
from minigpt.planning.forward import Pass
from minigpt.schema import SCHEMA

Devices = tuple[Device, ...]


def run(model: str, sizes: Pass, split: Split, as_json: bool = False) -> None:
    """Prints what each device holds, computes and sends.

    Raises:
        InputError: there is no such model, a size cannot be, or it cannot be divided so.
    """
    config, asked = config_for(model, sizes), split.experts
    if asked > 1 and not config.experts:
        split = replace(split, experts=1)
    with doing("running each device's part on shapes") as say:

        def progress(done: int, of: int) -> None:
            say(f"running each device's part on shapes: {done} of {of}")

        devices = on_devices(config, sizes, split, progress)
    if split.experts != asked:  # said of what can be counted alone: a refusal is one line
        note(f"{model} has no routed experts, so that --experts {asked} divides nothing")
    if as_json:
        print(json.dumps(document(model, config, sizes, split, devices)))
    else:
        _print(model, config, sizes, split, devices)


def document(
    model: str, config: Config, sizes: Pass, split: Split, devices: Devices
) -> dict[str, Any]:
    """What `count --json` prints of a model on several devices."""
    [alone] = on_devices(config, sizes, Split())
    return {
        "schema": SCHEMA,
        "model": model,
        **sizes.as_dict(),
        "tensor_parallel": split.tensor,
        "pipeline": split.pipeline,
        "experts": split.experts,
        "experts_met_in_each_layer": _met(config, sizes),
        "parameters": config.parameters,
        "parameters_replicated": dict(_held(devices) - alone.parameters),
        "matmul_flops_alone": matmul(alone.counts),
        "devices": [_document(device) for device in devices],
    }


def _met(config: Config, sizes: Pass) -> int | None:
    """How many experts a layer is assumed to meet."""
    experts = config.experts
    return len(sizes.assume(experts, sizes.B * sizes.T).segments) if experts else None


def _held(devices: Devices) -> Counter[str]:
    """Parameters by component, of all devices together."""
    return sum((device.parameters for device in devices), Counter[str]())


def _print(model: str, config: Config, sizes: Pass, split: Split, devices: Devices) -> None:
    [alone] = on_devices(config, sizes, Split())
    out = console()
    out.print(f"{model}: {sizes.in_words}, on {len(devices)} device(s)\n")
    rows = table(
        "device", "layers", "parameters", "KV cache", "peak activations", "FLOP", "2mnp", "sent"
    )
    for first, last in _alike(devices):
        names = dict.fromkeys(_name(d, split) for d in (first, last))
        figures = _figures(first)
        rows.add_row(" to ".join(names), f"{first.layers.start} to {first.layers[-1]}", *figures)
    out.print(rows, "")
    held = _held(devices)
    whole, total = config.parameters, held.total()
    out.print(f"{total:,} parameters on all devices = {whole:,} of the model + {total - whole:,}")
    if more := held - alone.parameters:
        several = (f"{name} {n:,}" for name, n in more.most_common())
        out.print(f"that several have: {', '.join(several)}")
    products = sum(matmul(device.counts) for device in devices)
    once = matmul(alone.counts)
    out.print(
        f"{products:,} FLOP of matrix products = {once:,} of one device + {products - once:,}"
    )
    if split.experts > 1:
        of_each = sorted({*split.places()[0].sequences(sizes.B)})
        out.print(f"each group has {' or '.join(map(str, of_each))} sequence(s) of the batch")
    if config.experts:
        met, of = _met(config, sizes), config.experts.n_routed_experts
        out.print(f"assumed: {met} of {of} experts are met in a layer, all by as many rows")
    for what, n in devices[0].sent.items():
        out.print(f"the first sends {n:,} bytes, {what}")


def _name(device: Device, split: Split) -> str:
    """Its stage, its group if there are several, and its number there."""
    group = [device.group] if split.experts > 1 else []
    return ".".join(map(str, (device.stage, *group, device.rank)))


def _figures(device: Device) -> list[str]:
    held, sent = device.held, sum(device.sent.values())
    peak = held["activations"] + held.get("wire", 0)
    numbers = device.parameters.total(), held["kv_cache"], peak, flops(device.counts)
    return [f"{n:,}" for n in (*numbers, matmul(device.counts), sent)]


def _alike(devices: Devices) -> list[tuple[Device, Device]]:
    """The first and the last of each run of devices that have the same figures."""
    found: list[tuple[Device, Device]] = []
    for device in devices:
        same = found and found[-1][0].stage == device.stage
        if same and _figures(found[-1][0]) == _figures(device):
            found[-1] = found[-1][0], device
        else:
            found.append((device, device))
    return found


def _document(device: Device) -> dict[str, Any]:
    return {
        "stage": device.stage,
        "group": device.group,
        "rank": device.rank,
        "sequences": device.sequences,
        "layers": [device.layers.start, device.layers.stop],
        "parameters": device.parameters.total(),
        "bytes_held": dict(device.held),
        "flops": flops(device.counts),
        "matmul_flops": matmul(device.counts),
        "kinds": device.counts.cost.by_kind(),
        "bytes_sent": dict(device.sent),
    }

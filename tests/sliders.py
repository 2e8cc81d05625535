"""The sliders of a run, and what they must say: drawn choices, documents of `count` and `plan`."""

import math
import random
from functools import cache
from typing import Any

from minigpt.commands.count import document as counted
from minigpt.commands.plan import document as planned
from minigpt.commands.verdict import milliseconds
from minigpt.models.architectures import PRESETS
from minigpt.planning.accelerators import GPUS
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.options import Options
from minigpt.planning.plan import plan
from minigpt.views.whatif import whatif

OWN = "smollm2-135m"  # a run's model, offered for no other reason


@cache
def specification() -> dict[str, Any]:
    """The chart with the sliders of a run."""
    [spec] = whatif(OWN, PRESETS[OWN], context=2048, batch=1, dtype="bfloat16").charts
    return spec


def drawn(seed: int, spec: dict[str, Any]) -> dict[str, Any]:
    """Values of the inputs, of those that each takes, for which there is a plan."""
    rng = random.Random(seed)
    bound = {param["name"]: param["bind"] for param in spec["params"] if "bind" in param}
    while True:
        chosen = {
            name: rng.choice(bind["options"]) if "options" in bind else _along(rng, bind)
            for name, bind in bound.items()
        }
        if f"{chosen['dtype']}/float32" in GPUS[chosen["gpu"]].flops:
            return chosen


def _along(rng: random.Random, bind: dict[str, Any]) -> float:
    steps = int((bind["max"] - bind["min"]) / bind["step"])
    return bind["min"] + bind["step"] * rng.randint(0, steps)


def said(chosen: dict[str, Any]) -> dict[str, str]:
    """What `count` and `plan` say of it, by the names on the page."""
    model, batch, dtype = chosen["model"], int(chosen["batch"]), chosen["dtype"]
    config = PRESETS[model]
    context = min(config.n_positions, math.floor(2 ** chosen["context"] + 0.5))
    weights = None if chosen["weights"] not in ("int8", "int4") else chosen["weights"]
    asked = Options(1, dtype, weights, context, batch)
    it = planned(plan(model, config, GPUS[chosen["gpu"]], asked))
    step = counted(count(model, Pass(1, context - 1, batch, dtype=dtype)))
    prompt = counted(count(model, Pass(it["prompt"], logits="last", dtype=dtype)))
    memory, floor = it["memory_of_each_gpu"], it["decode_at_context"]
    about = floor["estimate"]
    return {
        "context, tokens": f"{context:,}",
        "batch, sequences": f"{batch:,}",
        "prompt, tokens": f"{it['prompt']:,}",
        "FLOP of a step": f"{step['flops']:,}",
        "2mnp of a step": f"{step['matmul_flops']:,}",
        "FLOP of the prompt": f"{prompt['flops']:,}",
        "2mnp of the prompt": f"{prompt['matmul_flops']:,}",
        "weights": f"{memory['weights']:,}",
        "KV cache": f"{memory['kv_cache']:,}",
        "activations": f"{memory['activations']:,}",
        "runtime, assumed": f"{memory['overhead']:,}",
        "needed": f"{memory['needed']:,}",
        "available": f"{memory['available']:,}",
        "spare": f"{memory['spare']:,}",
        "fits": "yes" if it["fits"] else "may fit" if it["may_fit"] else "no",
        "weights read, bytes": f"{about['weight_bytes']:,}",
        "cache read and written": f"{about['kv_bytes']:,}",
        "at least": milliseconds(floor["seconds"]),
        "about": milliseconds(about["seconds"]),
        "bound by, about": about["binds"],
        "tokens/s at most": f"{it['tokens_per_second']['at_context']:,.0f}",
        "tokens/s about": f"{batch / about['seconds']:,.0f}",
    }

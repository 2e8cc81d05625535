"""What the figures of a plan rest on, each assumption in words."""

from minigpt.models.routing import expected_experts
from minigpt.parallel.divide import shares
from minigpt.planning.plan import OVERHEAD_RANGE, Plan
from minigpt.planning.roofline import PHASE_SECONDS


def assumptions(made: Plan) -> dict[str, list[str]]:
    """What a plan assumes, by what rests on it: "memory", "floor" and "estimate"."""
    return {"memory": _memory(made), "floor": _floor(made), "estimate": _estimate(made)}


def _memory(made: Plan) -> list[str]:
    low, high = (n / 1e9 for n in OVERHEAD_RANGE)
    where = f" ({made.gpu.memory_source})" if made.gpu.memory_source else ""
    told = [
        f"{made.gpu.name} gives a program {made.gpu.memory:,} bytes{where}",
        "weights and cache are exact, scales of narrow weights not included; nothing else runs",
        "activations are those of the run, operation by operation, prompts one at a time and whole",
        "fused attention never stores scores, their softmax and the mask; as written they are",
        f"the runtime takes {made.overhead / 1e9:.2g} GB a GPU, in a range of {low:.2g} to "
        f"{high:.2g}: what fits, fits over the range",
    ]
    if made.config.state_heads:
        told.append(f"the state of linear attention is float32, the last inputs {made.dtype}")
    if made.gpus > 1:
        told += [
            "tensor parallel: each GPU runs its part of every layer, on shapes, as `count "
            "--tensor-parallel` does; what has no parts is on each of them: norms, biases of a "
            "sum, routers, latents; of fewer heads of keys than GPUs several have the same one; "
            "said is what that GPU holds that needs the most",
            *uneven(made),
        ]
    return told


def uneven(made: Plan) -> list[str]:
    """What does not divide by the number of GPUs, each in words."""
    told, G = [], made.gpus
    for what, parts in shares(made.config, G).items():
        n, few = parts[0].total, sorted({*map(int, parts)})
        if len(few) > 1 or (n < G and n % G and G % n):
            words = ["none" if k == 0 else "one" if k == 1 and n < G else str(k) for k in few]
            parted = "" if n % G else ", as they go with their keys"
            has = " or ".join(words[::-1] if few[0] == 0 else words)
            told.append(f"{n} {what} do not divide by {G}{parted}: a GPU has {has}")
    return told


def _floor(made: Plan) -> list[str]:
    if made.gpu.measured:
        told = [f"the hardware's figures are {made.gpu.source}: the floor is an estimate too"]
    else:
        told = ["the hardware runs at the clocks of its data sheet; some cards boost beyond"]
    told += [
        f"products take 2mnp FLOP, none of them sparse, at the dense {made.roofline.fastest} rate: "
        "the fastest for operands no narrower than weights and cache are stored",
        "the masked half of the scores is left out, and what a block makes of positions that no "
        "later one looks at: of the last block all but the last position",
        "a token is a pass of its own: none is speculated, no prompt is cached",
        "each weight is read once a pass, each cached token once, nothing else moves; "
        f"{made.gpu.cache / 2**20:.4g} MiB a GPU may still be in its cache from the pass before",
    ]
    if experts := made.config.experts:
        met = experts.num_experts_per_tok
        told.append(f"all tokens of a pass meet the same {met} experts of a layer")
    if made.config.latent_cache:
        told.append(
            "latents, or keys and values made of them, are cached and attended to, whichever is "
            "fastest, alike in all blocks"
        )
    if made.config.state_heads:
        told.append(
            "a pass reads a state and writes it, once each; tokens go through linear attention "
            "one by one, without products within a chunk"
        )
    if made.gpus > 1:
        told.append(
            "tensor parallel: every product of a block is divided evenly, whether or not heads "
            f"are; activations are added up {_often(made)} a block, in {made.dtype}, in the "
            "switch, each sent once and while others are computed; no latency"
        )
    return told


def _often(made: Plan) -> str:
    """How often a block sums its activations."""
    times = sorted({*made.config.sums})
    return " or ".join({1: "once", 2: "twice"}[n] for n in times)


def _estimate(made: Plan) -> list[str]:
    told = [
        f"products run at the dense {made.dtype}/float32 rate",
        "all weights are read from memory in each pass; arithmetic and reading overlap",
    ]
    if experts := made.config.experts:
        decoding, prompt = (
            round(expected_experts(experts, tokens)) for tokens in (made.batch, made.prompt)
        )
        told.append(
            f"tokens choose experts independently and uniformly: {decoding} of a layer's "
            f"{experts.n_routed_experts} are met on average in decoding, {prompt} by the prompt"
        )
    if made.config.state_heads:
        told.append("a prompt goes through linear attention in chunks, as counted")
    if made.gpus > 1:
        told.append(
            "the GPU that takes longest, of those parts; all-reduces are rings in two phases of "
            f"{PHASE_SECONDS * 1e6:.0f} us (kipply, Transformer Inference Arithmetic, 2022), and "
            f"their bytes, waited for, over {made.gpu.link}, which is taken to link all of the GPUs"
        )
    return told

"""What each operation of a pass is for: the part of a model that formulas name, by its path.

GPT-2's modules have names of their own. In a decoder of parts the roles are those of attributes:
what a block calls `mixer.qkv` is "qkv", whatever its checkpoint calls it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from counting import ShapeArray
from minigpt.models.architectures import build
from minigpt.models.decoder_config import DecoderConfig
from minigpt.models.description import Part
from minigpt.models.experts import Beside, Experts
from minigpt.models.latent import LatentAttention
from minigpt.models.module import Module
from minigpt.models.paths import component

# What formulas call a component -> what `paths.component` calls its modules.
COMPONENTS = {
    "embed": ("wte", "wpe"),
    "mask": ("mask",),
    "norms": ("ln_1", "ln_2", "ln_f"),
    "qkv": ("attn.c_attn",),
    "cache": ("attn.cache",),
    "qk": ("attn.qk",),
    "softmax": ("attn.softmax",),
    "av": ("attn.av",),
    "out": ("attn.c_proj",),
    "mlp": ("mlp.c_fc", "mlp.gelu", "mlp.c_proj"),
    "residual": ("residual",),
    "head": ("lm_head",),
}
_PART_OF = {module: name for name, modules in COMPONENTS.items() for module in modules}

DECODER = (
    *("embed", "mask", "rope", "norms", "qkv", "latents", "cache", "qk", "softmax", "av", "out"),
    *("router", "experts", "shared", "mlp", "residual", "head"),
)
SCOPES = {  # what the code names inside of a part
    **{name: name for name in ("mask", "rope", "cache", "qk", "softmax", "av")},
    "heads": "latents",
    "dispatch": "router",
    "combine": "router",
}


def part_of(path: str) -> str:
    """What formulas call the component that a path of GPT-2 is in: "qkv" for `h.3.attn.c_attn`."""
    return _PART_OF[component(path)]


@dataclass(frozen=True)
class Roles:
    """What formulas call each component of a model.

    Attributes:
        names: of the components, in the order to tell them in.
        part_of: the name of the component that a path is in.
    """

    names: tuple[str, ...]
    part_of: Callable[[str], str]

    @staticmethod
    def gpt2() -> "Roles":
        """Those of GPT-2."""
        return Roles(tuple(COMPONENTS), part_of)

    @staticmethod
    def of(config: DecoderConfig) -> "Roles":
        """Those of a decoder, from what its modules are for."""
        weights = {key: ShapeArray(shape) for key, shape in config.shapes().items()}
        found = {component(path): role for path, role in _roles(build(config, weights))}

        def role(path: str) -> str:
            inside = component(path) if path else ""
            last = inside.rsplit(".", 1)[-1]
            if last in SCOPES and inside not in found:
                return SCOPES[last]
            while inside and inside not in found:
                inside = inside.rpartition(".")[0]
            if not inside and last == "act":  # of a feed-forward without a name of its own
                return "mlp"
            if not inside and path:
                raise KeyError(path)
            return found[inside] if inside else "head"  # what few models do to logits

        used = {*found.values(), *SCOPES.values()}
        if "experts" not in used:
            used.discard("router")
        if "latents" not in found.values():
            used.discard("latents")
        return Roles(tuple(name for name in DECODER if name in used), role)


def _roles(model: Any) -> Iterator[tuple[str, str]]:
    """Paths of modules and what they are for; a later one is what counts."""
    for block in model.layers:
        mixer = block.mixer
        yield from _all(block, "residual")
        yield from _all(block.feed_forward, "mlp")
        for part in block.feed_forward.modules():
            if isinstance(part, Experts):
                yield from _all(part.router, "router")
                for expert in part.experts.values():
                    yield from _all(expert, "experts")
            if isinstance(part, Beside):
                yield from _all(part.other, "shared")
        yield mixer.path, "qkv"
        if isinstance(mixer, LatentAttention):
            yield from _all(mixer.queries, "qkv")
            yield from _all(mixer.kv_a_proj_with_mqa, "qkv")
            yield from _all(mixer.kv_b_proj, "latents")
            yield from _all(mixer.o_proj, "out")
            norms = [part for part in mixer.modules() if "norm" in type(part).__name__.lower()]
        else:
            yield from _all(mixer.qkv, "qkv")
            yield from _all(mixer.out, "out")
            norms = [mixer.q_norm, mixer.k_norm]
        norms += [block.before_mixer, block.after_mixer]
        norms += [block.before_feed_forward, block.after_feed_forward]
        for norm in norms:
            if getattr(norm, "path", block.path) != block.path:
                yield from _all(norm, "norms")
        yield block.path, "residual"
    yield from _all(model.last_norm, "norms")
    yield from _all(model.embedding, "embed")
    yield from _all(model.positions, "embed")
    for rope in model.ropes.values():
        yield from _all(rope, "rope")
    yield from _all(model.lm_head, "head")


def _all(part: Any, role: str) -> Iterator[tuple[str, str]]:
    if isinstance(part, Module):
        for inside in part.modules():
            yield inside.path, role


def within(part: Part) -> Iterator[Part]:
    """A part and all parts of it."""
    yield part
    for _, value in part.settings:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, Part):
                yield from within(one)

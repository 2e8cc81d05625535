"""Configurations of GPT-2: their fields are the keys of a Hugging Face config.json."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from typing import Any, Self

from minigpt.checks import shown
from minigpt.models.config import Config, Shapes
from minigpt.models.values import Values

KEYS = {  # what the config.json of a GPT-2 calls what others have too
    "hidden_size": "n_embd hidden_size",
    "num_attention_heads": "n_head num_attention_heads",
    "num_hidden_layers": "n_layer num_hidden_layers",
    "max_position_embeddings": "n_positions max_position_embeddings",
    "layer_norm_eps": "layer_norm_epsilon",
}
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")


@dataclass(frozen=True)
class GPT2Config(Config):
    """The sizes of a GPT-2. For a symbolic run they are SymPy expressions, `n_embd = H * D`."""

    vocab_size: Any = 50257
    n_positions: Any = 1024
    n_embd: Any = 768
    n_layer: Any = 12
    n_head: Any = 12
    n_inner: Any = None  # width of the feed-forward layer; None is 4 * n_embd
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    scale_attn_by_inverse_layer_idx: bool = False
    _: KW_ONLY
    eos_token_id: int | tuple[int, ...] | None = 50256
    tie_word_embeddings: bool = True

    @property
    def layers(self) -> Any:
        return self.n_layer

    @property
    def width(self) -> Any:
        return self.n_embd

    @property
    def kv_heads(self) -> Any:
        return self.n_head

    @property
    def head_dim(self) -> Any:
        return self.n_embd // self.n_head

    @property
    def ffn_dim(self) -> Any:
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    def scale(self, layer: int) -> Any:
        """What the scores of a layer are multiplied by."""
        return self.head_dim**-0.5 / (layer + 1 if self.scale_attn_by_inverse_layer_idx else 1)

    def but(self, **values: Any) -> Self:
        return replace(self, **values)

    def values(self) -> dict[str, Any]:
        said = {name: value for name, value in asdict(self).items() if name != "uncomputed"}
        return {"model_type": "gpt2", **said}

    def short(self) -> tuple[Self, tuple[int, ...]]:
        return replace(self, n_layer=1), (0,) * self.n_layer  # how scores are scaled costs alike

    def shapes(self) -> Shapes:
        C, F, H, D = self.n_embd, self.ffn_dim, self.n_head, self.head_dim
        shapes: Shapes = {"wte.weight": (self.vocab_size, C), "wpe.weight": (self.n_positions, C)}
        block: Shapes = {
            "ln_1": (C,),
            "attn.c_attn": (C, 3 * H * D),
            "attn.c_proj": (H * D, C),
            "ln_2": (C,),
            "mlp.c_fc": (C, F),
            "mlp.c_proj": (F, C),
        }
        blocks = {f"h.{i}.{part}": block[part] for i in range(self.n_layer) for part in block}
        for path, shape in (blocks | {"ln_f": (C,)}).items():
            shapes |= {f"{path}.weight": shape, f"{path}.bias": shape[-1:]}
        if not self.tie_word_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, C)
        return shapes

    def layout(self, key: str, ndim: int) -> str | None:
        if key == "wpe.weight":
            return None  # added
        found = super().layout(key, ndim)
        return "columns" if found and key.startswith("h.") else found


GPT2_SIZES = {
    "gpt2": GPT2Config(),
    "gpt2-medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": GPT2Config(n_embd=1600, n_layer=48, n_head=25),
}


def gpt2_config(given: Mapping[str, Any], source: Any) -> GPT2Config:
    """The configuration in a config.json of model type "gpt2"; what it leaves out is as in `gpt2`.

    Args:
        source: the file, for errors.

    Raises:
        InputError: it has values that cannot be, or asks for what this model does not compute.
    """
    usual = {field.name: field.default for field in fields(GPT2Config)}
    usual |= {"scale_attn_weights": True}
    own = {keys.split()[0]: name for name, keys in KEYS.items()}
    c = Values(given, source, {own.get(key, key): value for key, value in usual.items()}, KEYS)
    c.only(add_cross_attention=False)
    if c.scale_attn_weights is not True:
        c.uncomputed.append("scale_attn_weights False")
    if (act := c.activation_function) not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise c.error(f"activation_function is {shown(act)}; computed are {known}")
    if c.hidden_size % c.num_attention_heads:
        what = f"{c.hidden_size} is not a multiple of n_head {c.num_attention_heads}"
        raise c.error(f"n_embd {what}")
    return GPT2Config(
        vocab_size=c.vocab_size,
        n_positions=c.max_position_embeddings,
        n_embd=c.hidden_size,
        n_layer=c.num_hidden_layers,
        n_head=c.num_attention_heads,
        n_inner=c.n_inner,
        layer_norm_epsilon=c.layer_norm_eps,
        activation_function=act,
        scale_attn_by_inverse_layer_idx=c.scale_attn_by_inverse_layer_idx,
        eos_token_id=c.eos_token_id,
        tie_word_embeddings=c.tie_word_embeddings,
        uncomputed=c.all_uncomputed(),
    )

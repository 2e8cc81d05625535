"""Configurations of GPT-2: their fields are the keys of a Hugging Face config.json."""

from dataclasses import KW_ONLY, asdict, dataclass, replace
from typing import Any, Self

from minigpt.models.config import MANY, Config, Shapes, Values


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

    def short(self) -> Self:
        return replace(self, n_layer=min(2, self.n_layer))

    def shapes(self) -> Shapes:
        C, F = self.n_embd, self.ffn_dim
        shapes: Shapes = {"wte.weight": (self.vocab_size, C), "wpe.weight": (self.n_positions, C)}
        block: Shapes = {
            "ln_1": (C,),
            "attn.c_attn": (C, 3 * C),
            "attn.c_proj": (C, C),
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

# What a GPT-2 config.json may also say, and the only values that this model computes.
_COMPUTED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def gpt2_config(values: Values) -> GPT2Config:
    """The configuration in a config.json of model type "gpt2"; what it leaves out is as in `gpt2`.

    Raises:
        InputError: it has values that cannot be, or that this model does not compute.
    """
    values.require(_COMPUTED)
    values = values.over(asdict(GPT2Config()))
    given: dict[str, Any] = {
        **values.sizes("vocab_size", "n_positions", "n_embd", "n_head"),
        **values.sizes("n_layer", most=MANY),
        **values.numbers("layer_norm_epsilon", least=0, below=1),
        **values.switches("tie_word_embeddings"),
        "n_inner": values.size_or_none("n_inner"),
        "eos_token_id": values.end_tokens(),
    }
    config = GPT2Config(**given)
    values.require_multiple(config, "n_embd", "n_head")
    return config

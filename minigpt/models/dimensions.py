"""What the configurations of all architectures say, each in its own words."""

from dataclasses import replace

from minigpt.models.architectures import Config
from minigpt.models.deepseek_config import DeepseekConfig
from minigpt.models.gpt2_config import GPT2Config


def layers(config: Config) -> int:
    """The number of blocks."""
    return config.n_layer if isinstance(config, GPT2Config) else config.num_hidden_layers


def width(config: Config) -> int:
    """Numbers that a token is between two blocks."""
    return config.n_embd if isinstance(config, GPT2Config) else config.hidden_size


def kv_heads(config: Config) -> int:
    """Heads that a cache holds, so parts it can be divided into; latents are one."""
    if isinstance(config, GPT2Config):
        return config.n_head
    return 1 if isinstance(config, DeepseekConfig) else config.num_key_value_heads


def short(config: Config) -> Config:
    """The same model with as few layers as show all that a layer can be."""
    if isinstance(config, GPT2Config):
        return replace(config, n_layer=min(2, config.n_layer))
    dense = config.first_k_dense_replace if isinstance(config, DeepseekConfig) else 0
    return replace(config, num_hidden_layers=min(dense + 2, config.num_hidden_layers))

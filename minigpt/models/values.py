"""The values of a config.json, each checked when it is asked for, by one table."""

from collections.abc import Mapping
from typing import Any

from minigpt.checks import NAME, OBJECT, SWITCH, Check, number, several, shown, whole
from minigpt.errors import InputError

MANY = 10_000  # layers: more are a mistake, and would be listed one by one
EXPERTS = 1024  # of a layer; so are these, twice as many as any of these models has
TAPS = 64  # of a convolution, which are added up one by one; models have 4


def tokens(value: Any) -> str | None:
    """The number of a token, or several; one past the vocabulary never comes."""
    listed = value if type(value) is list else [value]
    fits = all(type(token) is int and token >= 0 for token in listed)
    return None if fits else "the number of a token, or several"


def size(least: int = 1, most: int = 2**31 - 1) -> Check:
    """Whole numbers, a part that a device has as all of them; SymPy's, for a run on symbols."""
    each = whole(least, most)
    return lambda value: (
        None if hasattr(value, "free_symbols") else each(getattr(value, "total", value))
    )


NAMES = several(NAME, "a list of names")
NUMBERS = several(whole(least=0), "a list of whole numbers")

_SIZES = """vocab_size hidden_size intermediate_size moe_intermediate_size num_attention_heads
num_key_value_heads head_dim max_position_embeddings n_inner
kv_lora_rank q_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim n_shared_experts
num_experts_per_tok n_group topk_group sliding_window sliding_window_pattern
no_rope_layer_interval decoder_sparse_step query_pre_attn_scalar word_embed_proj_dim
original_max_position_embeddings num_ln_in_parallel_attn shared_expert_intermediate_size
full_attention_interval linear_key_head_dim linear_value_head_dim
linear_num_key_heads linear_num_value_heads"""
_SWITCHES = """attention_bias mlp_bias use_bias bias enable_bias use_qkv_bias qk_layernorm
tie_word_embeddings use_sliding_window norm_topk_prob scale_attn_weights alibi parallel_attn
scale_attn_by_inverse_layer_idx use_parallel_residual multi_query new_decoder_architecture
do_layer_norm_before layer_norm_elementwise_affine rope_interleave use_bidirectional_attention
add_cross_attention truncate qkv_bias"""
_FACTORS = """attention_multiplier embedding_multiplier residual_multiplier logits_scaling
logit_scale attn_logit_softcapping final_logit_softcapping routed_scaling_factor swiglu_alpha
swiglu_limit clip_qkv factor low_freq_factor high_freq_factor beta_fast beta_slow
attention_factor"""
CHECKS: dict[str, Check] = {
    **dict.fromkeys(_SIZES.split(), size()),
    **dict.fromkeys(_SWITCHES.split(), SWITCH),
    **dict.fromkeys(_FACTORS.split(), number(1e-6)),
    **dict.fromkeys(("n_routed_experts", "num_experts"), size(most=EXPERTS)),
    "num_hidden_layers": size(most=MANY),
    "linear_conv_kernel_dim": size(most=TAPS),
    **dict.fromkeys(("first_k_dense_replace", "max_window_layers", "moe_layer_freq"), size(0)),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps"), number(below=1)),
    **dict.fromkeys(("rope_theta", "rope_local_base_freq"), number(2)),
    **dict.fromkeys(("mscale", "mscale_all_dim"), number(0)),
    **dict.fromkeys(("hidden_act", "hidden_activation", "activation", "topk_method"), NAME),
    **dict.fromkeys(("activation_function", "scoring_func"), NAME),
    **dict.fromkeys(("rope_parameters", "rope_scaling", "text_config"), OBJECT),
    **dict.fromkeys(("no_rope_layers", "mlp_only_layers"), NUMBERS),
    **dict.fromkeys(("add_prefix_space", "legacy", "add_bos_token", "add_eos_token"), SWITCH),
    "eos_token_id": tokens,
    "layer_types": NAMES,
    "partial_rotary_factor": number(0, 1.0000001),
}
"""What each key of a config.json, or of a file beside it, must be. A reader asks for no others."""

COMMON: dict[str, Any] = {  # what transformers takes where a file is silent, in most families
    "attention_bias": False,
    "eos_token_id": None,
    "head_dim": None,
    "hidden_act": "silu",
    "layer_types": None,
    "mlp_bias": False,
    "num_key_value_heads": None,
    "rms_norm_eps": 1e-6,
    "rope_parameters": None,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
}

# Keys whose null says that there is none; so it does where the family's own default is none.
_NULLABLE = """attn_logit_softcapping eos_token_id final_logit_softcapping num_key_value_heads
q_lora_rank sliding_window"""
NULLABLE = frozenset(_NULLABLE.split())

# Keys that change nothing that a model computes: of training, of generation, of saving.
_HARMLESS = """_attn_implementation _name_or_path activation_dropout architectures
attention_dropout attn_pdrop auto_map aux_loss_alpha bad_words_ids begin_suppress_tokens
bos_token_id cache_implementation chunk_size_feed_forward classifier_dropout decoder_start_token_id
diversity_penalty do_sample dropout dtype early_stopping embd_pdrop embedding_dropout
encoder_no_repeat_ngram_size ep_size experts_per_token exponential_decay_length_penalty
finetuning_task forced_bos_token_id forced_eos_token_id gradient_checkpointing hidden_dropout
id2label init_std initial_context_length initializer_range is_decoder is_encoder_decoder
is_llama_config label2id language layerdrop length_penalty max_length max_position_embeddings
min_length model_type n_ctx no_repeat_ngram_size num_beam_groups num_beams num_mtp_layers
num_nextn_predict_layers num_return_sequences output_attentions output_hidden_states
output_router_logits output_scores pad_token_id prefix pretraining_tp problem_type pruned_heads
qk_head_dim quantization_config remove_invalid_values reorder_and_upcast_attn repetition_penalty
resid_pdrop residual_dropout return_dict return_dict_in_generate router_aux_loss_coef
router_bias_update_speed router_jitter_noise sep_token_id seq_aux summary_activation
summary_first_dropout summary_proj_to_labels summary_type summary_use_proj suppress_tokens
task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p
torch_dtype torchscript transformers_version typical_p use_bfloat16 use_cache use_mambapy
use_parallel_embedding"""
HARMLESS = frozenset(_HARMLESS.split())


class Values:
    """The values of a config.json as attributes: `c.hidden_size`; the family's where it is silent.

    Args:
        given: by key.
        source: the file, for errors.
        defaults: of the family. Null is as missing where they are false, empty or none.
        keys: by attribute, what the family calls it where it has another name, names in the order
            of what they count, or none where it has no such key; one that it does not know by is
            ignored.

    Attributes:
        asked: the keys that were asked for.
        uncomputed: what is said there and does not change sizes or FLOP, but what a model says.

    Asking for one raises InputError, in a line that names the file and the key, if it is missing or
    cannot be.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        source: Any,
        defaults: Mapping[str, Any] = {},
        keys: Mapping[str, str] = {},
    ) -> None:
        self.given, self.source, self.uncomputed = given, source, list[str]()
        self._defaults, self._keys = {**COMMON, **defaults}, keys
        self.asked, self._spelled = set[str](), dict[str, str]()
        named = {key: name for name in keys for key in keys[name].split()}
        for key in given:
            name = named.get(key, key)
            if name in keys and key not in named:
                continue
            known = self._spelled.setdefault(name, key)
            if known != key and given[known] != given[key]:
                raise self.error(f"{known} and {key} are one thing, and not equal")

    def spelled(self, name: str) -> str:
        """The key of the file that says what `name` is, or would say it."""
        return self._spelled.get(name) or (self._keys.get(name) or name).split()[0]

    def __getattr__(self, name: str) -> Any:
        if name not in CHECKS:
            raise AttributeError(name)
        self.asked.add(name)
        if name not in self._spelled and name not in self._defaults:
            raise self.error(f"{self.spelled(name)} is missing")
        usual = self._defaults.get(name)
        value = self.given[self._spelled[name]] if name in self._spelled else usual
        if value is None and name in self._defaults and not usual:
            value = usual
        none = name in NULLABLE or (name in self._defaults and usual is None)
        if not (value is None and none) and (must := CHECKS[name](value)):
            raise self.error(f"{self.spelled(name)} is {shown(value)}; it must be {must}")
        return tuple(value) if type(value) is list else value

    def takes(self, name: str) -> bool:
        """Whether models of this family have such a value, so one where a file is silent."""
        return name in self._defaults

    def unused(self, *keys: str) -> None:
        """Says of keys that files have that they change nothing in this model."""
        self.asked.update(keys)

    def only(self, **values: Any) -> None:
        """Raises InputError where a key is there and has another value than the one given here.

        Null is as missing, but for a switch, which it turns off.
        """
        for key, value in values.items():
            self.asked.add(key)
            found = self.given.get(self._spelled.get(key, key), value)
            if found != value and (found is not None or value is True):
                raise self.error(f"{key} is {shown(found)}; only {value!r} is computed")

    def error(self, what: str) -> InputError:
        """The error of a value, to be raised."""
        return InputError(f"{self.source}: {what}")

    def all_uncomputed(self) -> tuple[str, ...]:
        """What is `uncomputed`, and keys that nobody asked for, which may change what it says."""
        unread = sorted(self._spelled.keys() - self.asked - HARMLESS)
        off = (None, False)  # a switch: as if it were not there
        unread = [key for key in unread if not any(self.given[key] is value for value in off)]
        keys = (f"{key} of its config.json" for key in unread)
        return tuple(dict.fromkeys((*self.uncomputed, *keys)))

"""A small random model of transformers and ours of what it saves, pass by pass."""

import json
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from deltas import beyond
from families import kind, read
from safetensors.numpy import load_file

from counting import Counted, Ledger, ShapeArray, category
from counting.views import matmul
from minigpt.formulas.other_counters import cache_name
from minigpt.models.architectures import build
from minigpt.models.cache import LayerCache, Ring
from minigpt.models.state import State

BATCH = 2
THEIRS = {"kimi_k2": "deepseek_v3"}  # whose code a checkpoint of it runs on in transformers


def their_config(name: str, values: dict[str, Any]) -> Any:
    """The configuration that transformers makes of a config.json's values."""
    import transformers

    model_type = THEIRS.get(kind(name), kind(name))
    given = {key: value for key, value in values.items() if key != "model_type"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return transformers.AutoConfig.for_model(model_type, **given)


def their_model(config: Any) -> Any:
    """A random model: matrices that keep sizes, norms that are not 1, biases that are not 0."""
    import torch
    import transformers

    torch.manual_seed(0)  # some draw how fast a state fades
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.set_experts_implementation("eager")  # FlopCounterMode does not see the others
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.3 * noise)
        for name, buffer in model.named_buffers():
            if "e_score_correction_bias" in name:
                buffer.add_(0.1 * torch.randn_like(buffer))
    return model.eval().float()


def saved(model: Any, folder: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The values of its config.json and its tensors, by the keys of the hub."""
    model.save_pretrained(folder)
    tensors = {k: v for f in folder.glob("*.safetensors") for k, v in load_file(f).items()}
    prefix = "transformer." if model.config.model_type == "gpt2" else ""  # as the hub's has none
    return (
        json.loads((folder / "config.json").read_text()),
        {key.removeprefix(prefix): tensor for key, tensor in tensors.items()},
    )


@dataclass
class Beside:
    """What two models did with the same tokens.

    Attributes:
        config: ours, of the file that transformers wrote.
        written: that file.
        tensors: what it saved.
        errors: of logits, by run.
        flops: by pass: what transformers' products took, ours, and ours on shapes.
        bytes: of each layer's keys and values after all tokens: theirs, ours, and its window.
        states: of each layer of linear attention: their inputs and matrices, and ours.
    """

    config: Any
    written: dict[str, Any]
    tensors: dict[str, np.ndarray]
    errors: dict[str, float] = field(default_factory=dict)
    flops: list[tuple[int, int, int]] = field(default_factory=list)
    bytes: list[tuple[int, int, Any]] = field(default_factory=list)
    states: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)


def compared(name: str, values: dict[str, Any], runs: dict[str, list[int]], folder: Any) -> Beside:
    """Both models of these values, in the passes of each run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = their_model(their_config(name, values))
    written, tensors = saved(model, folder)
    found = Beside(read(name, written), written, tensors)
    ledger, on_shapes = Ledger(), Ledger()
    with category("weights"):
        held = {key: Counted(array, ledger) for key, array in tensors.items()}
        flat = {k: Counted(ShapeArray(v.shape, v.dtype), on_shapes) for k, v in tensors.items()}
    ours, shaped = build(found.config, held), build(found.config, flat)
    cached = cache_name(model)
    most = max(map(sum, runs.values()))
    tokens = np.random.default_rng(2).integers(0, values["vocab_size"], (BATCH, most))
    for run, passes in runs.items():
        past, cache, empty = None, ours.new_cache(BATCH, most), shaped.new_cache(BATCH, most)
        for layer in cache.layers:  # what is read before it is written shows
            if isinstance(layer, LayerCache):
                layer.k.data[:] = layer.v.data[:] = np.nan
        at, errors = 0, []
        for T in passes:
            new = tokens[:, at : at + T]
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                out = model(torch.tensor(new), **{cached: past}, use_cache=True)
            past = out[cached]
            before = ledger.snapshot()
            logits = ours(new, cache, "all")
            done = matmul(ledger.snapshot() - before)
            before = on_shapes.snapshot()
            shaped(ShapeArray(new.shape, np.int64), empty, "all")
            priced = matmul(on_shapes.snapshot() - before)
            errors.append(np.abs(logits.data - out.logits.numpy()).max())
            theirs = counter.get_total_flops() - expanded_latents(written, T, at)
            theirs -= BATCH * beyond(written, T, at)
            found.flops.append((theirs, done, priced))
            at += T
        found.errors[run] = float(np.max(errors))  # NumPy's: Python's passes over a NaN
    found.bytes = [
        (
            their.keys.nbytes + their.values.nbytes,
            our.filled_bytes if type(our) is not Ring else our.bytes_of(our.capacity),
            our.window if type(our) is Ring else None,
        )
        for their, our in zip(past.layers, cache.layers, strict=True)
        if not isinstance(our, State)
    ]
    found.states = [
        (their.conv_states[0], their.recurrent_states[0], our.inputs.data, our.matrix.data)
        for their, our in zip(past.layers, cache.layers, strict=True)
        if isinstance(our, State)
    ]
    return found


def expanded_latents(values: dict[str, Any], T: int, N: int) -> int:
    """What transformers computes beyond us with latent attention: keys and values of all S again.

    It caches latents as we do, but makes keys and values of every one of them in each pass, where
    we multiply the matrices into queries and outputs.
    """
    if "kv_lora_rank" not in values:
        return 0
    L, H, R = (values[k] for k in ("num_hidden_layers", "num_attention_heads", "kv_lora_rank"))
    P, D, S = values["qk_nope_head_dim"], values["v_head_dim"], N + T
    return 2 * L * BATCH * H * (R * (P + D) * (S - T) + T * S * (P + D - 2 * R))

"""Linear attention by arithmetic, and token by token: what chunks are held to."""

from typing import Any

import numpy as np

CHUNK = 64


def kinds(values: dict[str, Any]) -> list[str]:
    """Of each layer, as a config.json says it."""
    each, L = values.get("full_attention_interval", 4), values["num_hidden_layers"]
    usual = ["full_attention" if i % each == 0 else "linear_attention" for i in range(1, L + 1)]
    return values.get("layer_types") or usual


def beyond(values: dict[str, Any], T: int, N: int) -> int:
    """FLOP of products that transformers computes beyond us, of one sequence.

    It runs a convolution as a product, with inputs too many. It takes one token after others by
    operations element by element, and all else in chunks that are whole: it pads, has keys for
    every value head, and looks up in one more product what the state holds. A triangular system is
    solved by a function that the counter does not see; ours is of products.
    """
    if "linear_num_key_heads" not in values:
        return 0
    K, H = values["linear_num_key_heads"], values["linear_num_value_heads"]
    D, E = values["linear_key_head_dim"], values["linear_value_head_dim"]
    n, alone = values["linear_conv_kernel_dim"], T == 1 and N > 0
    seen = 2 if alone else (n + T if N else max(n, T)) + n - 1
    theirs = 2 * n * (2 * K * D + H * E) * seen
    for C in whole(T) if not alone else ():
        theirs += 2 * H * (2 * C * C * D + C * C * E + 3 * C * D * E)
    return kinds(values).count("linear_attention") * (theirs - sum(map(ours(values), chunks(T))))


def whole(T: int) -> list[int]:
    """The chunks of T tokens, padded."""
    return [CHUNK] * -(-T // CHUNK)


def chunks(T: int) -> list[int]:
    """The chunks of T tokens."""
    return [min(CHUNK, T - first) for first in range(0, T, CHUNK)]


def ours(values: dict[str, Any]) -> Any:
    """FLOP of products that a layer of ours takes for a chunk of C tokens, past its matrices."""
    K, H = values["linear_num_key_heads"], values["linear_num_value_heads"]
    D, E = values["linear_key_head_dim"], values["linear_value_head_dim"]

    def of(C: int) -> int:
        state = 3 * 2 * H * C * D * E
        return state + 2 * C * C * (2 * K * D + H * E) + H * C * (C - 1) * E

    return of


def held(values: dict[str, Any], width: int) -> int:
    """Bytes of state of a sequence: matrices of 4 bytes a number, inputs of `width`."""
    K, H = values["linear_num_key_heads"], values["linear_num_value_heads"]
    D, E = values["linear_key_head_dim"], values["linear_value_head_dim"]
    inputs = (values["linear_conv_kernel_dim"] - 1) * (2 * K * D + H * E)
    return kinds(values).count("linear_attention") * (4 * H * D * E + width * inputs)


def token_by_token(q: Any, k: Any, v: Any, b: Any, fade: Any, S: Any) -> tuple[Any, Any]:
    """The rule as it is published, one token after another: what each finds, and the state after.

    q, k (T, D) and v (T, E) of one head, b and fade (T,), S (D, E).
    """
    found = []
    for t in range(len(q)):
        S = S * np.exp(fade[t])
        S = S + np.outer(k[t], b[t] * (v[t] - k[t] @ S))
        found.append(q[t] @ S)
    return np.array(found), S

"""transformers' GPT-2 with the weights of a visit, eager, in float16, in the same process."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from gpu_visit.stages import Row, tried
from gpu_visit.visit import Run, Visit
from minigpt.formulas.other_counters import cache_name


@cache
def peer(visit: Visit) -> "tuple[Peer | None, list[Row]]":
    """The peer of a visit, one for all of a stage; None and a row that says why, if there is none.

    It is not there, it breaks (which may take our own results with it: a process on the GPU of
    which a kernel fails can launch no other), or it is not to run after that.
    """
    return tried("transformers", lambda: Peer(visit)) if visit.peers else (None, [])


class Peer:
    """GPT-2 by transformers.

    Raises:
        ImportError: torch or transformers is not installed.
    """

    def __init__(self, visit: Visit) -> None:
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel

        self.torch, self.visit = torch, visit
        self.where = "cpu" if visit.dry else "cuda"
        c = visit.config
        sizes = {"vocab_size": c.vocab_size, "n_positions": c.n_positions, "n_embd": c.n_embd}
        config = GPT2Config(**sizes, n_layer=c.n_layer, n_head=c.n_head)
        config._attn_implementation = "eager"
        torch.set_default_dtype(torch.float16)
        try:
            with torch.device(self.where):
                self.model = GPT2LMHeadModel(config).eval()
        finally:  # a peer that breaks is left out, and others run after it
            torch.set_default_dtype(torch.float32)
        held = visit.host_weights.items()
        state = {f"transformer.{key}": torch.from_numpy(x) for key, x in held}
        state["lm_head.weight"] = state["transformer.wte.weight"]
        found = self.model.load_state_dict(state, strict=False)
        if found.unexpected_keys or set(found.missing_keys) - {"lm_head.weight"}:
            raise ValueError(f"transformers' GPT-2 has other tensors: {found}")

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Of all positions (1, T, V), float32."""
        with self.torch.inference_mode():
            return self.model(self._put(tokens)).logits.float().cpu().numpy()

    def greedy(self, tokens: np.ndarray, count: int) -> list[int]:
        """The most likely tokens, one after another."""
        found: list[int] = []
        name, given, past = cache_name(self.model), self._put(tokens), None
        with self.torch.inference_mode():
            for _ in range(count):
                out = self.model(given, **{name: past}, use_cache=True)
                past, given = out[name], out.logits[:, -1:].argmax(-1)
                found.append(int(given))
        return found

    def decoder(self, keys: int) -> Run:
        """A decode step that looks at `keys` keys, and can be repeated."""
        name, token, past = cache_name(self.model), self._put(self.visit.tokens(1)), None
        if keys > 1:
            with self.torch.inference_mode():
                given = self._put(self.visit.tokens(keys - 1))
                past = self.model(given, use_cache=True)[name]

        def step() -> Any:
            with self.torch.inference_mode():
                out = self.model(token, **{name: past}, use_cache=True)
                if past is not None:
                    past.crop(-1)
                return out.logits

        return step

    def compiled(self) -> Callable[[int], Run]:
        """What makes such steps compiled, replayed as a CUDA graph, for a number of keys.

        Their cache is of fixed size: a step computes with all of it, and masks what is not there.
        """
        from transformers import StaticCache

        torch, name, token = self.torch, cache_name(self.model), self._put(self.visit.tokens(1))
        fixed = StaticCache(self.model.config, max_cache_len=self.visit.config.n_positions)
        how = {"backend": "eager"} if self.visit.dry else {"mode": "reduce-overhead"}
        forward = torch.compile(self.model, **how)
        with torch.inference_mode():
            self.model(token, **{name: fixed}, use_cache=True)  # makes the cache's tensors

        def decoder(keys: int) -> Run:
            def step() -> Any:
                with torch.inference_mode():
                    for layer in fixed.layers:
                        layer.cumulative_length.fill_(keys - 1)
                    return forward(token, **{name: fixed}, use_cache=True).logits

            return step

        return decoder

    def prefill(self) -> Run:
        """A pass over a prompt that gives the last position's logits."""
        tokens = self._put(self.visit.tokens(self.visit.prompt))

        def run() -> Any:
            with self.torch.inference_mode():
                return self.model(tokens, use_cache=True, logits_to_keep=1).logits

        return run

    def _put(self, tokens: np.ndarray) -> Any:
        return self.torch.from_numpy(tokens).to(self.where)

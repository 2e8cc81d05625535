"""Generation: one prefill, then decoding, a step for each token with the record of its pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from counting import Counted, Counts, interval, scope
from counting.views import flops, matmul
from minigpt.checkpoint.tokenizer import TextStream
from minigpt.errors import InputError
from minigpt.inference.device import to_host
from minigpt.inference.load import LanguageModel, Sizes, require
from minigpt.inference.sample import sample
from minigpt.schema import SCHEMA

EMPTY = "the prompt is empty: give at least one token of text"


@dataclass(frozen=True)
class Step:
    """A generated token and the record of the forward pass that produced it.

    Attributes:
        token: its id.
        text: its text; "" while a character is not whole yet.
        position: its place in the sequence, the prompt's first token at 0; the last token of a
            full context has the place behind it, for it is never fed back.
        sequence: which prompt of the batch it continues.
        batch: how many sequences went through the pass together.
        phase: "prefill" for the pass over the prompt, then "decode".
        new_tokens: tokens of each sequence that the pass computed.
        keys: keys that its last query looked at.
        counts: operations and bytes of the pass, by path and operation, whatever else the model
            did between two steps.
        live_bytes, peak_bytes: memory of the whole model after the pass, with the caches of other
            generations that are under way, and its high-water mark since the start.
        sampling: operations and bytes of drawing the tokens of all sequences after the pass, which
            `counts` are without; see `sample` for what is not counted.
        seconds: time of the pass: by the wall clock, on a GPU by CUDA events.
    """

    token: int
    text: str
    position: int
    sequence: int
    batch: int
    phase: Literal["prefill", "decode"]
    new_tokens: int
    keys: int
    counts: Counts
    sampling: Counts
    live_bytes: dict[str, int]
    peak_bytes: dict[str, int]
    seconds: float

    @property
    def flops(self) -> int:
        """Every arithmetic operation once, a fused multiply-add as two."""
        return int(flops(self.counts))

    @property
    def matmul_flops(self) -> int:
        """2mnp over the matrix products."""
        return int(matmul(self.counts))

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes written to the KV cache for one token of one sequence."""
        written = self.counts.bytes_written["kv_cache"]
        return int(written // (self.batch * self.new_tokens))

    def __repr__(self) -> str:
        return (
            f"Step({self.text!r} at {self.position}: {self.phase}, {self.keys} keys, "
            f"{self.flops:,} FLOP, {1000 * self.seconds:.3g} ms)"
        )

    def record(self) -> dict[str, Any]:
        """The step as a JSON object, a line of a log."""
        return {
            "schema": SCHEMA,
            "token": self.token,
            "text": self.text,
            "position": self.position,
            "sequence": self.sequence,
            "batch": self.batch,
            "phase": self.phase,
            "new_tokens": self.new_tokens,
            "keys": self.keys,
            "flops": self.flops,
            "matmul_flops": self.matmul_flops,
            "kinds": self.counts.cost.by_kind(),
            "bytes_read": self.counts.bytes_read,
            "bytes_written": self.counts.bytes_written,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "sample": figures(self.sampling),
            "live_bytes": self.live_bytes,
            "peak_bytes": self.peak_bytes,
            "seconds": self.seconds,
        }


def figures(counts: Counts) -> dict[str, Any]:
    """What was counted of drawing tokens, as a JSON object."""
    return {"flops": flops(counts), "kinds": counts.cost.by_kind()}


def generate(
    lm: LanguageModel,
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
    ignore_eos: bool = False,
) -> Iterator[Step]:
    """The continuation of `prompt`, a step for each token as it comes.

    Several prompts of equal token length run as one batch: each pass gives a step for each
    sequence that has not ended, all with the record of the same pass. Several generations of one
    model may go on in turn, in threads too: their passes run one after another.

    Args:
        lm: what `load` gives.
        temperature, top_k, top_p: see `sample`.
        seed: same seed, same tokens; None draws anew each time.
        ignore_eos: do not stop at the end-of-text token.

    Raises:
        InputError: the prompt or an option cannot be used, before anything runs; or the weights
            give logits that are not finite.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    tokens = encode(lm, prompts)
    check_options(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    _check(lm, tokens.shape[1], max_new_tokens, top_k)
    rng = np.random.default_rng(seed)

    def draw(logits: np.ndarray) -> list[int]:  # (B, V)
        with scope("sample"):
            rows = (Counted(row, lm.sampling) for row in logits)
            return [sample(row, rng, temperature, top_k, top_p) for row in rows]

    batch, length = tokens.shape
    sizes = Sizes(batch, length + max_new_tokens - 1, length)
    require(lm.device, lm.config, lm.dtype, sizes, loaded=True)
    end = () if ignore_eos else lm.config.eos_token_id
    ends = end if isinstance(end, tuple) else (end,)
    return _steps(lm, tokens, max_new_tokens, draw, ends)


def encode(lm: LanguageModel, prompts: Sequence[str]) -> np.ndarray:
    """The tokens of prompts of equal length, (B, T).

    Raises:
        InputError: there is none, one is empty or no text, or their lengths differ.
    """
    try:
        rows = [lm.tokenizer.encode(prompt).ids for prompt in prompts]
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"the prompt cannot be made into tokens: {error}") from None
    if not rows or not all(rows):
        raise InputError(EMPTY)
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise InputError(
            f"prompts of a batch must have equally many tokens; these have {lengths}: "
            "run them one by one"
        )
    return np.array(rows, np.int64)


def check_options(
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    **_: Any,
) -> None:
    """Checks those options of `generate` that can be checked before a model is loaded.

    Raises:
        InputError: an option cannot be used, whatever the model.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    if not 0 <= temperature < float("inf"):
        raise InputError(f"temperature is {temperature}; it must be 0 or more")
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k is {top_k}; it must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise InputError(f"top_p is {top_p}; it must be above 0 and at most 1")
    if seed is not None and seed < 0:
        raise InputError(f"seed is {seed}; it must be 0 or more")


def _check(lm: LanguageModel, length: int, max_new_tokens: int, top_k: int | None) -> None:
    context, vocabulary = lm.config.n_positions, lm.config.vocab_size
    if length > context:
        raise InputError(
            f"the prompt has {length} tokens, but the context of {lm.name} is {context}"
        )
    if length + max_new_tokens - 1 > context:  # the last token is never fed back
        raise InputError(
            f"{length} prompt tokens and {max_new_tokens} new ones do not fit the context of "
            f"{context}: at most {context - length + 1} new ones do"
        )
    if top_k is not None and top_k > vocabulary:
        raise InputError(f"top_k is {top_k}; it must be from 1 to {vocabulary}, the vocabulary")


def _steps(
    lm: LanguageModel,
    tokens: np.ndarray,
    max_new_tokens: int,
    draw: Any,
    ends: tuple[int | None, ...],
) -> Iterator[Step]:
    batch, length = tokens.shape
    with interval(lm.ledger):
        # The last token is never fed back, so it needs no place in the cache.
        cache = lm.model.new_cache(batch, length + max_new_tokens - 1)
    streams = [TextStream(lm.tokenizer, row.tolist()) for row in tokens]
    running = set(range(batch))
    phase: Literal["prefill", "decode"] = "prefill"
    for position in range(length, length + max_new_tokens):
        with interval(lm.ledger) as ran:
            stop = lm.device.stopwatch()
            with np.errstate(all="ignore"):  # what is not finite shows in the logits
                logits = lm.forward(tokens, cache)  # (B, 1, V)
            seconds = stop()
            live, peak = lm.ledger.live_bytes, lm.ledger.peak_bytes
        scores = to_host(logits.data)[:, -1]
        if not np.isfinite(scores).all():
            raise InputError(
                f"the logits of {lm.name} are not finite: its weights are damaged, or too large "
                f"for {lm.dtype}"
            )
        with interval(lm.sampling) as drew:
            drawn = draw(scores)
        for sequence in sorted(running):
            token = drawn[sequence]
            if token in ends:
                running.discard(sequence)
            yield Step(
                token=token,
                text="" if token in ends else streams[sequence].add(token),
                position=position,
                sequence=sequence,
                batch=batch,
                phase=phase,
                new_tokens=tokens.shape[1],
                keys=cache.length,
                counts=ran.counts,
                sampling=drew.counts,
                live_bytes=live,
                peak_bytes=peak,
                seconds=seconds,
            )
        if not running:
            return
        tokens, phase = np.array(drawn)[:, None], "decode"

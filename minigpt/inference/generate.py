"""Generation: one prefill, then decoding, a step for each token with the record of its pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np

from counting import Counted, Counts, interval, scope
from counting.scope import outermost
from counting.views import flops, matmul
from minigpt.checkpoint.tokenizer import TextStream, encoded
from minigpt.checks import SWITCH, a, checked, utf8
from minigpt.errors import InputError
from minigpt.inference.device import to_host
from minigpt.inference.load import LanguageModel
from minigpt.inference.memory import Sizes, require
from minigpt.inference.sample import Sampling, sample
from minigpt.models.paths import component
from minigpt.schema import SCHEMA

LONG = 100_000  # characters of a prompt that are made into tokens without another look
EMPTY = "the prompt is empty: give at least one token of text"


@dataclass(frozen=True)
class Step:
    """A generated token and the record of the forward pass that produced it.

    Attributes:
        token: its id.
        text: its text; "" while later tokens may change it, as those of one character; the last
            step has the rest.
        position: its index in the sequence, the prompt's first token at 0; the last token of a
            full context lies one past the end, for it is never fed back.
        sequence: which prompt of the batch it continues.
        batch: how many sequences went through the pass together.
        phase: "prefill" for the pass over the prompt, then "decode".
        new_tokens: tokens of each sequence that the pass computed.
        keys: keys that its last query looked at.
        counts: operations and bytes of the pass, by path and operation, whatever else the model
            did between two steps.
        reserving: operations and bytes of making the cache, before the first pass.
        live_bytes, peak_bytes: memory of the whole model after the pass, with the caches of other
            generations that are under way, and its high-water mark since the start.
        sampling: those of drawing all tokens after it; see `sample` for what is not counted.
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
    reserving: Counts
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

    def _repr_html_(self) -> str:
        from counting.notebook import parts, stack, text

        what = (
            f"{self.text!r}, token {self.token} at {self.position}: {self.phase} of "
            f"{self.new_tokens} token(s), {self.keys:,} keys, {1000 * self.seconds:.3g} ms"
        )
        live = sum(self.live_bytes.values())
        return (
            text(what, strong=True)
            + parts("component", self.counts.by(component).items(), self.counts)
            + text(f"{live:,} B alive after the pass")
            + stack(self.live_bytes, live or 1)
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
    chat: bool = False,
) -> Iterator[Step]:
    """The continuation of `prompt`, a step for each token as it comes.

    Several prompts of equal token length run as one batch: each pass gives a step for each
    sequence that has not ended, all with the record of the same pass. Several generations of one
    model may go on in turn, in threads too: their passes run one after another.

    Args:
        lm: what `load` gives.
        temperature, top_k, top_p: see `sample`.
        seed: same seed, same tokens; None draws anew each time.
        ignore_eos: do not stop at the tokens that end a text.
        chat: the prompt is a message of a user, and what comes is the answer: the prompt is what
            the chat template of the model makes of it.

    Raises:
        InputError: the prompt or an option cannot be used, before anything runs; or the weights
            give logits that are not finite.
    """
    checked("prompt", prompt, a("a text, or a list of texts", str, list, tuple))
    prompts = [prompt] if isinstance(prompt, str) else prompt
    sampling = Sampling(max_new_tokens, temperature, top_k, top_p, seed, ignore_eos)
    return continuation(lm, prompts, sampling, chat)


def continuation(
    lm: LanguageModel, prompts: Sequence[str], sampling: Sampling, chat: bool = False
) -> Iterator[Step]:
    """As `generate`, which spells the options out for its callers."""
    checked("sampling", sampling, a("a Sampling", Sampling))
    tokens = encode(lm, prompts, chat)
    batch, length = tokens.shape
    _check(lm, length, sampling)
    context = length + sampling.max_new_tokens - 1  # the last token is never fed back
    require(lm.device, lm.config, lm.dtype, Sizes(batch, context, length), loaded=True)
    return passes(lm, tokens, sampling)


def encode(lm: LanguageModel, prompts: Sequence[str], chat: bool = False) -> np.ndarray:
    """The tokens of prompts of equal length, (B, T).

    Args:
        chat: the prompts are messages, each put into the chat template, which has all special
            tokens that the model wants.

    Raises:
        InputError: there is none, one is empty or no text, their lengths differ, one has a token
            that the model does not know, or there is no chat template.
    """
    checked("lm", lm, a("what load gives", LanguageModel))
    checked("prompts", prompts, a("a list of texts", list, tuple))
    checked("chat", chat, SWITCH)
    for prompt in prompts:
        checked("a prompt", prompt, utf8)
    if chat:
        if lm.chat is None:
            raise InputError(
                f"{lm.name} has no chat template, neither in tokenizer_config.json nor as "
                "chat_template.jinja: leave --chat out, or take a model that was trained to chat"
            )
        prompts = [lm.chat.render(prompt) for prompt in prompts]
    for prompt in prompts:
        _require_short(lm, prompt)
    rows = [encoded(lm.tokenizer, prompt, special=not chat).ids for prompt in prompts]
    if not rows or not all(rows):
        raise InputError(EMPTY)
    for token in chain.from_iterable(rows):
        if token >= lm.config.vocab_size:
            text = lm.tokenizer.id_to_token(token)  # none, where it is put around all prompts
            raise InputError(
                f"the prompt has {text!r}, which is token {token}, but {lm.name} knows "
                f"{lm.config.vocab_size} tokens: leave it out"
            )
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
        raise InputError(
            f"prompts of a batch must have equally many tokens; these have {lengths}: "
            "run them one by one"
        )
    return np.array(rows, np.int64)


def _require_short(lm: LanguageModel, prompt: str) -> None:
    """Looks at the beginning of a long prompt first: a token takes 200 bytes while it is made."""
    context = lm.config.n_positions
    begin = prompt[: max(LONG, 16 * context)]
    if len(prompt) > len(begin):
        tokens = len(encoded(lm.tokenizer, begin, special=False))
        if tokens > 2 * context:  # what follows may change some of the last
            raise InputError(
                f"the first {len(begin):,} of {len(prompt):,} characters of the prompt are "
                f"{tokens:,} tokens already, but the context of {lm.name} is {context}"
            )


def _check(lm: LanguageModel, length: int, sampling: Sampling) -> None:
    context, vocabulary = lm.config.n_positions, lm.config.vocab_size
    new, top_k = sampling.max_new_tokens, sampling.top_k
    if length > context:
        raise InputError(
            f"the prompt has {length} tokens, but the context of {lm.name} is {context}"
        )
    if length + new - 1 > context:
        raise InputError(
            f"{length} prompt tokens and {new} new ones do not fit the context of "
            f"{context}: at most {context - length + 1} new ones do"
        )
    if top_k is not None and top_k > vocabulary:
        raise InputError(f"top_k is {top_k}; it must be from 1 to {vocabulary}, the vocabulary")


def passes(lm: LanguageModel, tokens: np.ndarray, sampling: Sampling) -> Iterator[Step]:
    """Passes over prompts (B, T), then over each token drawn: a step for each, as it comes.

    A debugger finds `lm` and `ran`, the interval of the pass, among its variables.

    Raises:
        InputError: the weights give logits that are not finite.
    """
    batch, length = tokens.shape
    last = length + sampling.max_new_tokens - 1  # it is never fed back, and needs no slot
    ends = () if sampling.ignore_eos else lm.ends
    rng = np.random.default_rng(sampling.seed)
    with lm.turn() as reserved:
        cache = lm.model.new_cache(batch, last)
    streams = [TextStream(lm.tokenizer, row.tolist()) for row in tokens]
    running = set(range(batch))
    phase: Literal["prefill", "decode"] = "prefill"
    for position in range(length, last + 1):
        with lm.turn() as ran:
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
            drawn = _drawn(lm, scores, rng, sampling)
        for sequence in sorted(running):
            token, stream = drawn[sequence], streams[sequence]
            text = "" if token in ends else stream.add(token)
            if token in ends or position == last:
                running.discard(sequence)
                text += stream.end()
            yield Step(
                token=token,
                text=text,
                position=position,
                sequence=sequence,
                batch=batch,
                phase=phase,
                new_tokens=tokens.shape[1],
                keys=cache.length,
                counts=ran.counts,
                reserving=reserved.counts,
                sampling=drew.counts,
                live_bytes=live,
                peak_bytes=peak,
                seconds=seconds,
            )
        if not running:
            return
        tokens, phase = np.array(drawn)[:, None], "decode"


def _drawn(
    lm: LanguageModel, scores: np.ndarray, rng: np.random.Generator, sampling: Sampling
) -> list[int]:
    """A token of each sequence; no part of `passes`, for a scope of a generator costs more."""
    chosen = sampling.temperature, sampling.top_k, sampling.top_p
    with outermost(), scope("sample"):
        return [sample(Counted(row, lm.sampling), rng, *chosen) for row in scores]

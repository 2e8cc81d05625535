"""What fewer bits cost in accuracy: the logits of each dtype beside those of float32."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from counting.table import table
from minigpt.bench.engines import agreeing
from minigpt.bench.rounds import start
from minigpt.bench.subject import Subject, subject
from minigpt.bench.worker import Case, Job
from minigpt.checkpoint.tokenizer import decoded, encoded
from minigpt.commands.terminal import console, doing
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES
from minigpt.inference.generate import encode, generate
from minigpt.inference.load import LanguageModel, load
from minigpt.planning.hardware import threads
from minigpt.schema import SCHEMA
from minigpt.storage import reading
from minigpt.storage.files import reason

REFERENCE = next(iter(DTYPES))
GENERATED = 256  # tokens of the text, if none is given
GREEDY = 64  # tokens that kernels and plain NumPy are to agree on


class Text(NamedTuple):
    """Tokens to predict, and where they are from."""

    source: str
    tokens: list[int]


class Row(NamedTuple):
    """How a dtype does.

    Attributes:
        max_error, mean_error: of its logits, against those of float32: absolute.
        top1_agreement: the share of positions at which both hold the same token most likely.
        nats_per_token, nats_per_character: cross entropy of the text.
        token_difference, character_difference: what that is above that of float32.
    """

    dtype: str
    max_error: float
    mean_error: float
    top1_agreement: float
    nats_per_token: float
    nats_per_character: float
    token_difference: float
    character_difference: float


class Accuracy(NamedTuple):
    """What a measurement found.

    Attributes:
        predicted, characters: tokens and characters of the text that were predicted.
        greedy, same: tokens that float32 generated with kernels, and how many of them, from the
            first on, plain NumPy generates.
    """

    model: str
    text: Text
    predicted: int
    characters: int
    rows: list[Row]
    greedy: int
    same: int

    def document(self) -> dict[str, Any]:
        """It as a JSON object."""
        return {
            "schema": SCHEMA,
            "model": self.model,
            "text": self.text.source,
            "predicted": self.predicted,
            "characters": self.characters,
            "rows": [row._asdict() for row in self.rows],
            "greedy": {"tokens": self.greedy, "same": self.same},
        }


class _Sums:
    """What is added up of a dtype, window by window."""

    def __init__(self) -> None:
        self.max_error = self.errors = self.nats = 0.0
        self.logits = self.agreed = 0

    def add(self, logits: np.ndarray, reference: np.ndarray, following: np.ndarray) -> None:
        """Logits (T, V) of a window, those of float32, and the tokens that do follow (T,)."""
        error = np.abs(logits - reference)
        self.max_error = max(self.max_error, float(error.max()))
        self.errors += float(error.sum(dtype=np.float64))
        self.logits += error.size
        self.agreed += int((logits.argmax(1) == reference.argmax(1)).sum())
        largest = logits.max(1)
        of_all = np.log(np.exp(logits - largest[:, None]).sum(1, dtype=np.float64)) + largest
        self.nats += float((of_all - logits[np.arange(len(following)), following]).sum())


def accuracy(model: str, text: Path | None = None) -> Accuracy:
    """Each dtype against float32, on windows of the model's context that do not overlap.

    The first token of a window is given, the others are predicted. All models stay in memory.

    Args:
        model: see `bench.subject`.
        text: a file of UTF-8 text; what the model itself generates in float32 if not given.

    Raises:
        InputError: the model or the text cannot be used, or logits are not finite.
    """
    about = subject(model)
    with doing(f"loading {model}") as say:
        models = {dtype: load(about.folder, dtype=dtype) for dtype in DTYPES}
        lm = models[REFERENCE]
        chosen = _generated(lm) if text is None else _read(lm, text)
        tokens, context = chosen.tokens, lm.config.n_positions
        windows = [tokens[i : i + context] for i in range(0, len(tokens) - 1, context)]
        sums = {dtype: _Sums() for dtype in DTYPES}
        for i, window in enumerate(windows):
            say(f"window {i + 1} of {len(windows)}")
            reference = _logits(lm, window)
            for dtype, total in sums.items():
                logits = reference if dtype == REFERENCE else _logits(models[dtype], window)
                total.add(logits, reference, np.array(window[1:]))
        say("greedy tokens of plain NumPy")
        ours, plain = (_greedy(about, engine) for engine in ("minigpt", "numpy"))
    predicted = sum(len(window) - 1 for window in windows)
    texts = (decoded(lm.tokenizer, window[1:]) for window in windows)
    characters = sum(map(len, texts))
    nats = sums[REFERENCE].nats
    rows = [
        Row(
            dtype,
            total.max_error,
            total.errors / total.logits,
            total.agreed / predicted,
            total.nats / predicted,
            total.nats / characters,
            (total.nats - nats) / predicted,
            (total.nats - nats) / characters,
        )
        for dtype, total in sums.items()
    ]
    same = agreeing(ours, plain)
    return Accuracy(model, chosen, predicted, characters, rows, len(ours[0]), same)


def _read(lm: LanguageModel, file: Path) -> Text:
    try:
        content = reading.text(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as UTF-8 text: {reason(error)}") from None
    tokens = encoded(lm.tokenizer, content).ids
    if len(tokens) < 2:
        raise InputError(f"{file} has {len(tokens)} tokens: nothing to predict, give at least 2")
    return Text(str(file), tokens)


def _generated(lm: LanguageModel) -> Text:
    [prompt] = encode(lm, ["The"]).tolist()
    number = min(GENERATED, lm.config.n_positions) - len(prompt)
    steps = generate(lm, "The", max_new_tokens=number, temperature=1, seed=0, ignore_eos=True)
    tokens = prompt + [step.token for step in steps]
    return Text("what the model itself generates in float32 from 'The' with seed 0", tokens)


def _logits(lm: LanguageModel, window: Sequence[int]) -> np.ndarray:
    """Of what follows each token of a window but the last, (T, V)."""
    given = np.array([window[:-1]])
    with np.errstate(all="ignore"):  # what is not finite is said here
        found = lm.forward(given, lm.model.new_cache(1, given.shape[1]), "all").data[0]
    if not np.isfinite(found).all():
        raise InputError(f"the logits of {lm.name} in {lm.dtype} are not finite")
    return found


def _greedy(about: Subject, engine: str) -> list[list[int]]:
    """The tokens of an engine in float32, in a process of its own."""
    context = about.config.n_positions
    prompt = min(16, context // 2)
    new = min(GREEDY, context - prompt)
    case, vocabulary = Case(prompt), about.config.vocab_size
    job = Job(engine, REFERENCE, str(about.folder), threads(), vocabulary, (case,), new)
    return start(job)[0].cases[0].tokens


def show(found: Accuracy, as_json: bool) -> None:
    """Prints the table, what it is of, and if asked the document as the last line."""
    columns = ("max error", "mean error", "same top 1", "nats/token", "above float32")
    rows = table("dtype", *columns, "nats/character", "above float32")
    for row in found.rows:
        rows.add_row(
            row.dtype,
            f"{row.max_error:.4f}",
            f"{row.mean_error:.5f}",
            f"{100 * row.top1_agreement:.2f} %",
            f"{row.nats_per_token:.5f}",
            f"{row.token_difference:+.5f}",
            f"{row.nats_per_character:.5f}",
            f"{row.character_difference:+.5f}",
        )
    out = console()
    out.print(rows)
    for line in (
        f"{found.predicted} tokens, {found.characters} characters of {found.text.source}",
        f"float32: first {found.same} of {found.greedy} greedy tokens as in plain NumPy",
    ):
        out.print(line, highlight=False)
    if as_json:
        print(json.dumps(found.document()))

"""Where a model stops while it generates, and how it goes back: by running again, the same."""

from bdb import BdbQuit
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import FrameType
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from counting.stepping.frames import callers
from counting.stepping.stepper import Stepper
from minigpt.checkpoint.tokenizer import encoded
from minigpt.commands.options import ModelOptions
from minigpt.errors import InputError
from minigpt.inference.generate import Step, continuation, passes
from minigpt.inference.load import LanguageModel
from minigpt.inference.sample import Sampling
from minigpt.models import (
    cache,
    decoder,
    delta,
    experts,
    gpt2,
    latent,
    model,
    ops,
    parts,
    reach,
    rope,
    routing,
)
from minigpt.models.model import Model
from minigpt.models.paths import layer_of
from minigpt.stepping.inspection import every_path

_CODE = (cache, decoder, delta, experts, gpt2, latent, model, ops, parts, reach, rope, routing)
_FILES = {str(module.__file__) for module in _CODE}
_PASSES = {model.forward.__code__ for model in (gpt2.GPT2, decoder.Decoder)}


def is_model(file: str) -> bool:
    """Whether a file, by its name, is one that a model is written in."""
    return file in _FILES


class Job(NamedTuple):
    """What to generate, as the command line says it."""

    prompt: str
    options: ModelOptions
    sampling: Sampling
    at: str | None
    token: int | None


@dataclass(frozen=True)
class State:
    """Where a model has stopped, in plain values that can go to another process.

    Attributes:
        event: "line" before it runs, "return", "exception", "operation" once it has run, or "end"
            of the text where it ran to something that did not come.
        path, file, line, function: where.
        token: which generated token it is about, from 1.
        text: what was generated before it.
        number: operations so far.
        flops: of them, a multiply-add as two.
        live, peak: bytes by category.
    """

    event: str
    path: str
    file: str
    line: int
    function: str
    token: int
    text: str
    number: int
    flops: int
    live: dict[str, int]
    peak: dict[str, int]


class ModelStepper(Stepper):
    """A stepper that knows tokens and layers, and goes back; each token is a mark.

    Args:
        own: see `Stepper`; by default, the files that models are written in.
        options: of the other base classes.

    Attributes:
        lm: what generates, while it does.
        came: the tokens so far, as `generate` gives them.
        most: how many there can be.
        ended: whether the text has ended.
        given: the tokens of the prompt.
        tokenizer: of what generates; None if that is not known.
    """

    def __init__(self, own: Callable[[str], bool] = is_model, **options: Any) -> None:
        super().__init__(own, **options)
        self.lm: LanguageModel | None = None
        self.tokenizer: Tokenizer | None = None
        self.given: list[int] = []
        self.came: list[Step] = []
        self.most = 0
        self.ended = False
        self._back: int | None = None

    def generate(
        self,
        lm: LanguageModel,
        prompt: str,
        sampling: Sampling,
        at: str | None = None,
        token: int | None = None,
    ) -> str | None:
        """Continues a text as `generate` does, stopping; its text, or None if it was quit.

        Args:
            sampling: options of `generate`; without a seed one is drawn, to be able to go back.
            at: a glob; the first stop is the first line that enters a path that matches.
            token: and not before the pass that gives this token, the first being 1.

        Raises:
            InputError: as `generate`; or there is no such path or token.
        """
        if at is not None:
            check_path(lm, at, paths(lm.model))
        most = sampling.max_new_tokens
        if token is not None and not 1 <= token <= most:
            raise InputError(f"--token is {token}; it must be from 1 to {most}")
        sampling = sampling.seeded()
        self.lm, self.tokenizer, self.most = lm, lm.tokenizer, most
        checkpoint = lm.ledger.checkpoint()
        self._first(at, token or 1)
        while True:
            steps = continuation(lm, [prompt], sampling)
            self.given = encoded(lm.tokenizer, prompt).ids
            if self._run(steps):
                return prompt + "".join(step.text for step in self.came)
            if self._back is None:
                return None
            lm.ledger.restore(checkpoint)  # what ran until here is no more, whoever holds it
            self._again(self._back)

    def _run(self, steps: Any) -> bool:
        """Runs to the end; False if it was quit."""
        assert self.lm is not None
        self.came, self.ended = [], False
        self.observe(self.lm.ledger)
        frame = steps.gi_frame  # keeps its variables when it has ended: the cache, the last logits
        try:
            with self.stepping():
                for step in steps:
                    self.came.append(step)
                    self.mark()
                self.ended = True
                if self.waiting and self.stops:
                    self._stop(frame, "end", f"the text ended after {len(self.came)} tokens")
                self.finished(frame)
        except BdbQuit:
            return False
        return not self.quitting

    def finished(self, frame: FrameType) -> None:
        """Called when the text has ended, while its cache and its last logits are there."""

    def _first(self, at: str | None, token: int) -> None:
        def wanted(frame: FrameType, path: str, before: str) -> bool:
            if at is None:
                return self.token >= token and frame.f_code in _PASSES
            return self.token >= token and path != before and fnmatchcase(path, at)

        self.run_to_line(wanted)

    def _again(self, number: int) -> None:
        self._back, self.passing = None, True
        if number:
            self.run_to_operation(lambda op: op.number >= number)
        else:
            self._first(None, 1)

    def break_in(self, frame: FrameType) -> None:
        super().break_in(frame)
        if self.lm is None:
            for above in callers(frame):
                if above.f_code is passes.__code__:
                    variables = above.f_locals
                    self.tokenizer = variables["lm"].tokenizer
                    if "ran" in variables:  # a pass, and not the making of the cache
                        self._mark = variables["ran"].before

    # How far to go on, beside what a Stepper does.

    def run_to_layer(self) -> None:
        """Goes on to the first line of the next layer, of this token or of the next."""
        here = self.token, layer_of(self.path)

        def wanted(frame: FrameType, path: str, before: str) -> bool:
            layer = layer_of(path)
            return layer is not None and (self.token, layer) != here

        self.run_to_line(wanted)

    def run_to_token(self, token: int | None = None) -> None:
        """Goes on to the first line of the pass of the next token, or of a later one."""
        first = self.token + 1 if token is None else token
        known = self.lm is not None
        self.run_to_line(
            lambda frame, *_: frame.f_code in _PASSES and (self.token >= first or not known)
        )

    def run_back(self, operations: int = 1) -> None:
        """Goes to where so many operations fewer had run, by running from the start again.

        The ledger is taken back to the start with it, and breakpoints are passed by on the way.

        Raises:
            ValueError: there were not so many, or this is no generation.
        """
        if self.lm is None:
            raise ValueError("going back needs minigpt step, which can run the same again")
        if operations > self.number:
            raise ValueError(f"there are {self.number} operations to go back by, not {operations}")
        self._back = self.number - operations
        self.set_quit()

    # What is known where it stands.

    @property
    def token(self) -> int:
        """Which generated token is computed, from 1; at the end, the last."""
        return len(self.came) + (not self.ended)

    def state(self, frame: FrameType, event: str) -> State:
        """All that one wants to know first, as plain values."""
        return State(
            event=event,
            path=self.path,
            file=frame.f_code.co_filename,
            line=frame.f_lineno,
            function=frame.f_code.co_name,
            token=self.token,
            text="".join(step.text for step in self.came),
            number=self.number,
            flops=self.flops,
            live=self.ledger.live_bytes if self.ledger else {},
            peak=self.ledger.peak_bytes if self.ledger else {},
        )


def paths(model: Model) -> list[str]:
    """Every path that a pass can enter: those of the model's parts, and of its operations."""
    return sorted({*every_path(model), *(part.path for part in model.modules())})


def nearest(wrong: str, known: list[str]) -> str:
    """What may have been meant by a path that there is not."""
    known = [path for path in known if path]
    close = get_close_matches(wrong, known, n=3, cutoff=0.5)
    return f"perhaps {' or '.join(close)}" if close else f"there are {', '.join(known[:5])} …"


def check_path(lm: LanguageModel, glob: str, known: list[str]) -> None:
    """Raises InputError unless one of the paths that are known of a model matches."""
    if not any(fnmatchcase(path, glob) for path in known):
        raise InputError(f"no path of {lm.name} matches {glob!r}: {nearest(glob, known)}")

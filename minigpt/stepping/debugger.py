"""pdb for a model: counting's debugger, and commands for tokens, layers, cache and attention."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from shutil import get_terminal_size
from typing import Any, ClassVar

from counting import show
from counting.stepping import debugger
from counting.stepping.commands import below
from counting.views import flops
from minigpt.checkpoint.tokenizer import decoded
from minigpt.commands.terminal import Shown
from minigpt.models.module import Module
from minigpt.models.paths import component, layer_of
from minigpt.stepping.inspection import (
    attention_pattern,
    expected,
    kv_cache,
    logit_lens,
    model_of,
)
from minigpt.stepping.stepper import ModelStepper, nearest, paths


class Debugger(ModelStepper, debugger.Debugger):
    """The prompt of `minigpt step`, and of a breakpoint in a model."""

    own_commands = (
        *("op", "layer", "token", "at", "stop", "back", "run"),
        *("cost", "executed", "ledger", "mem", "kv", "look", "attn", "lens", "source"),
    )
    commands_resuming: ClassVar[list[str]] = [
        *debugger.Debugger.commands_resuming,
        *("do_layer", "do_token", "do_back", "do_run"),
    ]

    def print(self, shown: Any) -> None:
        Shown(self.stdout, highlight=False).print(shown)

    # How far to go on.

    def go(self, plan: Callable[[], None]) -> bool:
        if self.ended:
            self.error("the text has ended: back, run, c or q")
            return False
        return super().go(plan)

    def do_layer(self, arg: str) -> Any:
        """layer

        Run to the first line of the next layer.
        """
        if arg:
            next_one = "it runs to the next; at h.3 runs to one by its path"
            return self.error(f"layer takes no argument: {next_one}")
        return self.go(self.run_to_layer)

    def do_token(self, arg: str) -> Any:
        """token [N]

        Run to the first line of the pass that gives token N, the next unless told.

        Tokens that are generated are numbered from 1, as --token has them.
        """
        what = "token N runs to the pass that gives token N"
        token = self.whole(arg, default=self.token + 1, what=what)
        if token is None:
            return None
        if self.lm and not self.token < token <= self.most:
            there = f"this is token {self.token} of {self.most}"
            return self.error(f"there is no token {token} to run to: {there}")
        return self.go(lambda: self.run_to_token(token))

    def do_at(self, arg: str) -> Any:
        known = self.paths()
        if arg and known and not any(fnmatchcase(path, arg) for path in known):
            return self.error(f"no path matches {arg!r}: {nearest(arg, known)}")
        return super().do_at(arg)

    do_at.__doc__ = debugger.Debugger.do_at.__doc__

    def do_back(self, arg: str) -> Any:
        """back [N]

        Go to where N operations fewer had run, 1 unless told.

        It runs from the start again, with the same seed, past all breakpoints: everything is as it
        was, memory too.
        """
        operations = self.whole(arg, default=1, what="back N goes N operations back")
        if operations is None:
            return None
        try:
            self.run_back(operations)
        except ValueError as error:
            return self.error(str(error))
        return True

    def do_run(self, arg: str) -> Any:
        """run

        Go back to the first line of the first pass.
        """
        if arg:
            return self.error("run takes no argument: it is the same text again")
        return self.do_back(str(self.number or 1))

    do_restart = do_run

    # What can be read.

    def do_kv(self, arg: str) -> None:
        """kv [LAYER]

        The KV cache, of all layers or one: positions filled and reserved, and bytes.

        A layer of linear attention has a state instead, of all tokens so far.
        """
        rows = kv_cache(self.here)
        if not rows:
            return self.error("there is no cache here: a pass has to run")
        if arg:
            layer = self.whole(arg, least=0)
            if layer is None:
                return
            if layer >= len(rows):
                return self.error(f"there is no layer {layer}: they are 0 to {len(rows) - 1}")
            rows = [rows[layer]]
        for row in rows:
            room = "tokens in a state"
            if row.reserved is not None:
                room = f"of {row.reserved:,} positions"
            self.message(
                f"layer {row.layer:3} {row.filled:6,} {room} "
                f"{row.filled_bytes:13,} of {row.reserved_bytes:,} B"
            )
        if len(rows) > 1:
            filled = sum(row.filled_bytes for row in rows)
            reserved = sum(row.reserved_bytes for row in rows)
            self.message(f"all layers: {filled:,} of {reserved:,} B filled")

    def do_lens(self, arg: str) -> None:
        """lens [N]

        The N likeliest tokens, 5 unless told, if the model ended here: the logit lens.

        It is not charged to the ledger.
        """
        top = self.whole(arg, default=5)
        if top is None:
            return
        lens = logit_lens(self.here, top)
        if lens is None:
            return self.error("there is no residual stream here yet: try layer")
        self.message(f"if the model ended with x of {lens.path or 'the whole model'}:")
        for token, share in lens.tokens:
            self.message(f"  {share:6.1%} {self.word(token)}")

    def do_attn(self, arg: str) -> None:
        """attn [HEAD]

        Where attention looks: the last query of each head, or every query of one.

        The darker the more; the key that is looked at most stands behind.
        """
        pattern = attention_pattern(self.here)
        if pattern is None:
            return self.error(
                "there is no pattern here: run to *.softmax (at), and over its line (n)"
            )
        heads, queries, keys = pattern.shape
        if arg:
            head = self.whole(arg, least=0)
            if head is None:
                return
            if head >= heads:
                return self.error(f"there is no head {head}: they are 0 to {heads - 1}")
            first = keys - queries
            rows = [(self.at_position(first + i), row) for i, row in enumerate(pattern[head])]
        else:
            rows = [(f"head {i}", row) for i, row in enumerate(pattern[:, -1])]
        room = max(get_terminal_size().columns - 48, 16)
        if keys > room:
            self.message(f"the last {room} of {keys} keys:")
        for name, row in rows:
            shades = "".join(show.SHADES[round(v * (len(show.SHADES) - 1))] for v in row[-room:])
            most = int(row.argmax())
            key = f"{row[most]:4.0%} at {most} {self.at_position(most)}"
            self.message(f"{name:>14} |{shades}| {key}")

    def do_cost(self, arg: str) -> None:
        """cost

        What was counted since the last stop, and in this pass at this line, path, layer.

        And what the formula says that they take in all.
        """
        super().do_cost(arg)
        counts, path = self.since_mark, self.looked_at()
        if arg or counts is None:
            return
        layer = layer_of(path)
        if layer not in (None, path):
            self.costs(f"layer {layer}", below(counts, layer or ""))
        for name in dict.fromkeys((path, layer or "")):
            whole = expected(self.here, name)
            if whole:
                done = flops(below(counts, name) if name else counts)
                source = f"= {whole.formula}" if whole.formula else "by a run on shapes"
                self.message(f"{name or 'the pass'}: {done:,} of {whole.flops:,} FLOP, {source}")

    # What they share.

    def paths(self) -> list[str]:
        if self.lm:
            return paths(self.lm.model)
        model = model_of(self.here)
        return paths(model) if model else super().paths()

    def looked_at(self) -> str:
        part = self.here.f_locals.get("self")
        innermost = self.curindex == len(self.stack) - 1
        return self.path if innermost or not isinstance(part, Module) else part.path

    def component(self, path: str) -> str:
        return component(path)

    def word(self, token: int) -> str:
        """A token as it is written."""
        return repr(decoded(self.tokenizer, [token])) if self.tokenizer else f"token {token}"

    def at_position(self, position: int) -> str:
        """The token at a position."""
        tokens = self.given + [step.token for step in self.came]
        return self.word(tokens[position]) if position < len(tokens) else f"position {position}"

    def complete_kv(self, text: str, *_: Any) -> list[str]:
        layers = (str(row.layer) for row in kv_cache(self.here))
        return [layer for layer in layers if layer.startswith(text)]

"""`minigpt step --tui`: the debugger as a screen. It only draws; a process of its own computes."""

import asyncio
import signal
from contextlib import suppress
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, VerticalScroll
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Footer, Input, Static, Tree

from counting.table import si
from minigpt.harmless import harmless
from minigpt.stepping.screen.engine import Engine
from minigpt.stepping.screen.layers import Layers
from minigpt.stepping.screen.messages import Command, Ended, Loading, Ready, Running, View
from minigpt.stepping.screen.panels import Memory, Panel, Source, Tensor, Totals, Writing
from minigpt.stepping.stepper import Job

INTERRUPTED = 128 + signal.SIGINT  # what a shell makes of Ctrl-C
WORDS = (
    *("stop when nan", "stop when inf", "stop when flops>1e6", "stop when alloc>1e4"),
    *("ledger", "mem", "kv", "cost", "look", "lens", "attn", "back", "token", "layer", "run"),
)
HELP = """\
s n r c    step to the next line, over calls, out of the function; continue
o          run to the next operation, and stop when it has run (op)
l t        run to the next layer, to the next token
b          to the operation before (back, back 100)
a, Enter   run to a path: at h.3.attn.softmax; Enter to the chosen layer
Esc        stop what runs; close what is open
q Ctrl-C   quit; Ctrl-C first stops what runs
:          all that pdb's prompt takes, → completes:
  stop when nan | inf | flops>1e6 | alloc>1e4
  ledger [PATH]  mem  kv [LAYER]  cost   what was counted, what is held
  lens  attn [HEAD]  look x  p x.shape   what the model thinks, and values
  run  help  help COMMAND                from the start; all the commands
Heat map: orange above 0, blue below, dark near 0, pink where not finite.
"""


class Heard(Message):
    """What the engine said."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what


class Stepping(App[int]):
    """The full-screen view.

    Args:
        engine: what computes.
        job: what it was told to do.

    Attributes:
        view: the last one; None before the first.
        standing: whether the engine waits for a command.
        ended: how it ended, once it has.
    """

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 as in App
    VERTICAL_BREAKPOINTS = [(0, "-low"), (34, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "go('s')", "step"),
        Binding("n", "go('n')", "next"),
        Binding("r", "go('r')", "return"),
        Binding("o", "go('op')", "op"),
        Binding("l", "go('layer')", "layer"),
        Binding("t", "go('token')", "token"),
        Binding("b", "go('back')", "back"),
        Binding("c", "go('c')", "go"),
        Binding("a", "command('at ')", "at", show=False),
        Binding("colon", "command('')", "cmd", key_display=":"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "leave(0)", "quit"),
        Binding("escape", "stop", "stop", show=False),
        Binding("ctrl+q", f"leave({INTERRUPTED})", "quit", show=False, priority=True),
        Binding("ctrl+c", "interrupt", "interrupt", show=False, priority=True),
    ]

    def __init__(self, engine: Engine, job: Job) -> None:
        super().__init__()
        self.engine, self.job = engine, job
        self.view: View | None = None
        self.standing = False
        self.ended: Ended | None = None
        self._loaded = self._stopping = False  # it was told to stop, and has not yet
        self._asked = 0, 0  # the room for a picture that the engine was told of

    def compose(self) -> ComposeResult:
        loading = harmless(f"loading {self.job.options.model} …")
        yield Static(loading, id="status", markup=False)
        with Grid(id="panels"):
            yield Source(id="source")
            yield Layers(id="layers")
            yield Tensor(id="tensor")
            yield Memory(id="memory")
            yield Totals(id="totals")
            yield Writing(self.job.prompt, id="text")
        with VerticalScroll(id="said"):
            yield Static(markup=False)
        yield Input(
            id="command", compact=True, placeholder="at h.3.attn.softmax", select_on_focus=False
        )
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        self.theme = "tokyo-night"
        self.query_one(Layers).border_title = "layers · share of FLOP"
        self.query_one(Layers).focus()
        self.query_one("#said").border_subtitle = "Esc closes"
        loop = asyncio.get_running_loop()
        with suppress(AttributeError, NotImplementedError):  # Windows
            loop.add_signal_handler(signal.SIGINT, self.action_interrupt)
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.exit, 128 + number)
        self.engine.listen(lambda what: self.post_message(Heard(what)))

    # What the engine says.

    def on_heard(self, message: Heard) -> None:
        what = message.what
        if isinstance(what, View):
            self._stand(what)
        elif isinstance(what, Running):
            self.query_one(Writing).told(what.text)
            figures = f"op {what.number:,} · token {what.token} · {si(what.flops)}FLOP"
            self._tell(f"running · {figures} · Esc stops", "-running")
        elif isinstance(what, Ended):
            self._end(what)
        elif isinstance(what, Loading):
            self._loaded = False
            self._tell(f"loading {self.job.options.model}: {si(what.done)}B of {si(what.total)}B")
        elif isinstance(what, Ready):
            self._loaded = True
            self._tell(f"{self.job.options.model} is loaded: running to where it stops first")
            self.query_one(Layers).grow(what.paths)
            at = [f"at {path}" for path in what.paths if path]
            self.query_one(Input).suggester = SuggestFromList([*WORDS, *at])

    def _stand(self, view: View) -> None:
        self.view, self.standing, state = view, True, view.state
        self._draw(view)
        self._tell(
            f"{state.path or 'top'} · op {state.number:,} · token {state.token}/{view.most} · "
            f"{si(state.flops)}FLOP · {si(sum(state.live.values()))}B live"
        )
        if view.said:
            self.say(view.said)
        self._fit()

    def _draw(self, view: View) -> None:
        for panel in self.query(Panel):
            panel.show(view)
        self.query_one(Layers).show(view)

    def _end(self, ended: Ended) -> None:
        if self.ended and (self.ended.error or self.ended.text is None):
            return  # that the process is gone is no news
        self.standing, self.ended = False, ended
        if ended.error:
            if ended.wrong and self.view is None:
                self.exit(2)
            self._tell("it runs no more · q leaves", "-broken")
            self.say(ended.error, broken=True)
        elif ended.text is None or (ended.missed and self.view is None):
            self.exit(0)
        else:
            if ended.view:
                self._draw(ended.view)
            missed = " before it came there" if ended.missed else ""
            self._tell(f"finished{missed} · q prints it and leaves, : run starts again")

    # What the user says.

    def action_go(self, line: str) -> None:
        """Gives a command, if the engine waits for one."""
        again = self.ended is not None and not self.ended.error and line == "run"
        if self.standing or again:
            self.query_one("#said").remove_class("-shown")
            self.ended = None
            self._send(line)
        elif self.ended and self.ended.error:
            self.query_one("#said").add_class("-shown")

    def _send(self, line: str) -> None:
        self._stopping = not (self.standing or line)
        self.standing = False
        self._asked = self.query_one(Tensor).cells
        width, height = self.size
        self.engine.send(Command(line, width - 6, max(height - 8, 8), self._asked))

    def _fit(self) -> None:
        """Asks for a picture of the size that there is room for now."""
        if self.standing and self._asked != self.query_one(Tensor).cells:
            self._send("")

    def on_tensor_resized(self) -> None:
        self._fit()

    def action_stop(self) -> None:
        """Closes what is open; else stops what runs, after the operation that it is at."""
        command, said = self.query_one("#command"), self.query_one("#said")
        if command.has_class("-shown") or said.has_class("-shown"):
            command.remove_class("-shown")
            said.remove_class("-shown")
            self.query_one(Layers).focus()
        elif not self.standing and not self.ended:
            self._send("")

    def action_command(self, start: str) -> None:
        """Opens the line for commands."""
        line = self.query_one(Input)
        line.add_class("-shown")
        line.value = start
        line.focus()
        line.action_end()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.query_one(Input).remove_class("-shown")
        self.query_one(Layers).focus()
        if line := event.value.strip().removeprefix(":"):
            self.action_go(line)

    def on_tree_node_selected(self, event: Tree.NodeSelected[str]) -> None:
        self.action_go(f"at {event.node.data}")

    def action_help(self) -> None:
        """Says what the keys do."""
        self.say(HELP)

    def action_interrupt(self) -> None:
        """Stops what runs; leaves where nothing does, or where it does not stop."""
        if self.standing or self.ended or self._stopping or not self._loaded:
            self.exit(INTERRUPTED)
        else:
            self._send("")

    def action_leave(self, status: int) -> None:
        """Leaves; what computes ends with it."""
        self.exit(status)

    def say(self, text: str, broken: bool = False) -> None:
        """Shows some lines until the next step, or Esc."""
        said = self.query_one("#said")
        said.query_one(Static).update(harmless(text.rstrip()))
        said.set_class(broken, "-broken")
        said.add_class("-shown")
        said.scroll_home(animate=False)

    def _tell(self, text: str, kind: str = "") -> None:
        status = self.query_one("#status", Static)
        status.update(harmless(text))
        status.set_classes(kind)

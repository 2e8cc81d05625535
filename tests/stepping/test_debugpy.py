"""An IDE steps through the model and not through what counts: debugpy, driven over its socket.

It is told what `.vscode/launch.json` tells it.
"""

import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from checkpoints import ROOT, environment

pytest.importorskip("debugpy")

[LAUNCH] = json.loads((ROOT / ".vscode" / "launch.json").read_text())["configurations"]
GPT2 = ROOT / "minigpt" / "models" / "gpt2.py"
PARTS = ROOT / "minigpt" / "models" / "parts.py"
ROOMS = {
    str(ROOT / "minigpt" / "models" / f"{room}.py")
    for room in ("cache", "gpt2", "model", "ops", "parts")
}
SECONDS = 120


class Adapter:
    """A client of the Debug Adapter Protocol."""

    def __init__(self, connection):
        connection.settimeout(SECONDS)
        self._stream = connection.makefile("rwb")
        self._number = 0
        self._events = []

    def send(self, command, **arguments):
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command}
        body = json.dumps({**message, "arguments": arguments}).encode()
        self._stream.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._stream.flush()
        return self._number

    def _receive(self):
        length = 0
        while line := self._stream.readline().strip():
            name, value = line.split(b":")
            length = int(value) if name == b"Content-Length" else length
        return json.loads(self._stream.read(length))

    def response(self, number):
        while True:
            message = self._receive()
            if message["type"] == "event":
                self._events.append(message)
            elif message["type"] == "response" and message["request_seq"] == number:
                assert message["success"], message
                return message.get("body", {})

    def ask(self, command, **arguments):
        return self.response(self.send(command, **arguments))

    def event(self, name):
        while True:
            for i, message in enumerate(self._events):
                if message["event"] == name:
                    return self._events.pop(i).get("body", {})
            message = self._receive()
            if message["type"] == "event":
                self._events.append(message)

    def stack(self):
        """Where it stops next: the frames, the innermost first."""
        self.thread = self.event("stopped")["threadId"]
        return self.ask("stackTrace", threadId=self.thread)["stackFrames"]

    def go(self, how):
        """One step, and where it ends."""
        self.ask(how, threadId=self.thread)
        return self.stack()


@contextmanager
def launched(output):
    """The configuration as it stands, but attached to and not launched by an IDE."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    listen = "--listen", f"127.0.0.1:{port}", "--wait-for-client"
    command = [sys.executable, "-X", "frozen_modules=off", "-m", "debugpy", *listen]
    command += ["-m", LAUNCH["module"], *LAUNCH["args"]]
    with output.open("wb") as said:  # no pipe: the adapter, another process, would hold it too
        run = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=said, stderr=subprocess.DEVNULL
        )
    try:
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                assert run.poll() is None
                time.sleep(0.1)
        with connection:
            yield Adapter(connection), run
    finally:
        run.kill()
        run.wait()


def where(frames):
    return frames[0]["source"]["path"], frames[0]["name"], frames[0]["line"]


def line_of(file, text):
    [number] = [i for i, line in enumerate(file.read_text().splitlines(), 1) if text in line]
    return number


def test_an_ide_steps_through_the_model_alone(tmp_path):
    rules = json.loads(json.dumps(LAUNCH["rules"]).replace("${workspaceFolder}", str(ROOT)))
    breakpoint = line_of(GPT2, "qkv = self.c_attn(x)")
    with launched(tmp_path / "said") as (ide, run):
        ide.ask("initialize", adapterID="test", pathFormat="path")
        attached = ide.send("attach", justMyCode=LAUNCH["justMyCode"], rules=rules)
        ide.event("initialized")
        there = {"path": str(GPT2)}
        set_ = ide.ask("setBreakpoints", source=there, breakpoints=[{"line": breakpoint}])
        assert set_["breakpoints"][0]["verified"]
        ide.ask("configurationDone")
        ide.response(attached)

        frames = ide.stack()
        assert where(frames) == (str(GPT2), "forward", breakpoint)
        assert not [frame for frame in frames if "counting" in frame["source"]["path"]]

        inside = ide.go("stepIn")  # through Module.__call__
        assert where(inside)[:2] == (str(PARTS), "forward")

        seen = ide.ask("evaluate", expression="x", frameId=inside[0]["id"], context="hover")
        assert seen["result"].startswith(
            "Counted((1, 7, 256) float32, 7,168 B of activations at h.0.ln_1 by add: 1,792 FLOP"
        )
        [scope, *_] = ide.ask("scopes", frameId=inside[0]["id"])["scopes"]
        variables = ide.ask("variables", variablesReference=scope["variablesReference"])
        shown = {variable["name"]: variable["value"] for variable in variables["variables"]}
        assert shown["x"] == seen["result"]

        assert where(ide.go("stepOut"))[:2] == (str(GPT2), "forward")

        visited = {where(ide.go("stepIn"))[:2] for _ in range(80)}
        assert {file for file, _ in visited} <= ROOMS
        assert {name for _, name in visited} >= {"append", "softmax", "merge_heads", "gelu"}

        ide.ask("setBreakpoints", source=there, breakpoints=[])
        ide.ask("continue", threadId=ide.thread)
        run.wait(SECONDS)
    assert (tmp_path / "said").read_text().startswith("To be, or not to be")

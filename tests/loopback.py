"""A server on this machine that speaks the part of the hub's API in use."""

import gzip
import hashlib
import http.server
import os
import re
import socket
import time
from contextlib import suppress

COMMIT = "a" * 40
NEEDED = ["config.json", "tokenizer.json", "model.safetensors"]


def speaks(result):
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"ab")
    return True


def generate(model):
    return "generate", "ab", "--model", model, "--max-new-tokens", "2", "--quiet"


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in folders: `repos[name][revision]` is one.

    Attributes:
        asked: (method, path) of all requests.
        sent: bytes of content by file.
        ranges: whether a Range is honoured.
        tokens: that open a repository which is private, by its name.
        gated: names of those that are.
        status: that everything is answered with; none.
        headers: that answers have in place of the right ones.
        instead: content that comes in place of a file's, by its name; the ETag stays.
        cut: after how many bytes of a file the line goes dead, once.
        drip: seconds between two pieces of content.
        large: names of files whose ETag is the SHA-256 of their content.
        elsewhere: names of files that lie at another address.
        refused: status that a GET is answered with, by the name of the file.
        failing: status that a HEAD is answered with, by the name of the file.
        zipped: content that comes compressed in place of a file's, by its name.
        endless: names of files that never end.
        still: names of files of which ten bytes come, and no more.
        slow_head: names of files about which the head of an answer never ends.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.asked, self.sent = {}, [], {}
        self.ranges, self.tokens, self.gated = True, {}, set()
        self.status, self.headers, self.instead, self.cut = None, {}, {}, {}
        self.drip, self.large, self.elsewhere = 0, set(), set()
        self.refused, self.failing, self.zipped = {}, {}, {}
        self.endless, self.still, self.slow_head = set(), set(), set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def fetched(self):
        """The files that were sent."""
        return [path.rsplit("/", 1)[1] for method, path in self.asked if method == "GET"]


class Handler(http.server.BaseHTTPRequestHandler):
    """HEAD and GET of /{repo}/resolve/{revision}/{file}."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        get = self.command == "GET"
        repo, resolve, place = self.path[1:].removeprefix("other/").partition("/resolve/")
        if not resolve:  # huggingface_hub asks for lists of its own too
            return self.answer(404)
        self.server.asked.append((self.command, self.path))
        if self.server.status:
            return self.answer(self.server.status)
        revision, _, file = place.partition("/")
        if file in self.server.slow_head:
            return self.pieces(b"HTTP/1.1 200 OK\r\n", b"X-More: of it\r\n", 0.5)
        if status := (self.server.refused if get else self.server.failing).get(file):
            return self.answer(status, Retry_After="3600")
        if "/" not in repo and f"openai-community/{repo}" in self.server.repos:
            return self.answer(307, Location=f"/openai-community/{repo}/resolve/{place}")
        token = self.server.tokens.get(repo)
        private = token and self.headers["Authorization"] != f"Bearer {token}"
        if repo not in self.server.repos or private:
            return self.answer(401, X_Error_Code="RepoNotFound", X_Error_Message="not found")
        if repo in self.server.gated:
            return self.answer(403, X_Error_Code="GatedRepo", X_Error_Message="ask first")
        if revision not in self.server.repos[repo]:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, folder = self.server.repos[repo][revision]
        if not os.path.isfile(folder / file):
            about = {"X_Repo_Commit": commit} | self.server.headers
            return self.answer(404, X_Error_Code="EntryNotFound", **about)
        size = (folder / file).stat().st_size
        with (folder / file).open("rb") as stream:
            tag = hashlib.sha1(stream.read(1 << 20) + str(size).encode()).hexdigest()
        if file in self.server.large:
            tag = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        about = {"ETag": f'"{tag}"', "X_Repo_Commit": commit} | self.server.headers
        if file in self.server.elsewhere and not self.path.startswith("/other/"):
            about["X_Linked_Etag"] = about.pop("ETag")
            return self.answer(302, X_Linked_Size=str(size), Location=f"/other{self.path}", **about)
        if file in self.server.instead:
            folder = folder.parent / "instead"
            folder.mkdir(exist_ok=True)
            (folder / file).write_bytes(self.server.instead[file])
            size = (folder / file).stat().st_size
        if get and file in self.server.zipped:
            folder = folder.parent / "zipped"
            folder.mkdir(exist_ok=True)
            (folder / file).write_bytes(gzip.compress(self.server.zipped[file]))
            size = (folder / file).stat().st_size
            about["Content_Encoding"] = "gzip"
        if get and file in self.server.endless:
            self.head(200, Transfer_Encoding="chunked", **about)
            return self.pieces(b"", b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20)), 0)
        if get and file in self.server.still:
            self.head(200, Content_Length=str(size), **about)
            return self.pieces(bytes(10), b"", 0.1)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"] or "")
        if not (asked and self.server.ranges):
            return self.answer(200, folder / file, range(size), **about)
        part = range(int(asked[1]), min(int(asked[2]) + 1, size))
        if not part:
            return self.answer(416, Content_Range=f"bytes */{size}")
        where = f"bytes {part.start}-{part.stop - 1}/{size}"
        return self.answer(206, folder / file, part, Content_Range=where, **about)

    do_GET = do_HEAD

    def head(self, status, **headers):
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def pieces(self, first, then, seconds):
        """Goes on for as long as anybody listens, or 60 s."""
        self.close_connection = True
        self.wfile.write(first)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            self.wfile.write(then)
            time.sleep(seconds)

    def answer(self, status, file=None, part=range(0), **headers):
        self.head(status, **{"Content_Length": str(len(part))} | headers)
        if self.command == "GET" and part:
            with file.open("rb") as stream:
                stream.seek(part.start)
                for begin in range(part.start, part.stop, 1 << 16):
                    data = stream.read(min(1 << 16, part.stop - begin))
                    cut = self.server.cut.pop(file.name, None)
                    try:
                        self.wfile.write(data[:cut])
                        if cut is not None:
                            return self.connection.shutdown(socket.SHUT_RDWR)
                        time.sleep(self.server.drip)
                    except ConnectionError:  # whoever asked has read enough
                        return
                    self.server.sent[file.name] = self.server.sent.get(file.name, 0) + len(data)

    def handle(self):
        with suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        pass

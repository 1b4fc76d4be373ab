"""A local server of a few files, with the faults that real ones have."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves `files`, and counts what was asked for.

    Attributes:
        files: content by path.
        ranges: whether parts can be asked for.
        drops: bytes after which the next answers break off, one after the other.
        failures: codes with which the next answers fail.
        asked: path and range of every request.
        version: of all files.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.ranges = True
        self.drops: list[int] = []
        self.failures: list[int] = []
        self.asked: list[tuple[str, str | None]] = []
        self.version = '"one"'

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """A server that runs meanwhile."""
    server = FileServer(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        content = server.files[self.path]
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        same = self.headers.get("If-Range", server.version) == server.version
        begin = int(match[1]) if match and server.ranges and same else 0
        if begin >= len(content) > 0 and match:
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("ETag", server.version)
        self.end_headers()
        rest = content[begin:]
        if server.drops:
            self.wfile.write(rest[: server.drops.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

"""A loopback server of files that can cut them off, spoil them, and forget what ranges are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Server:
    """What is served, and how badly.

    Attributes:
        files: contents by path.
        cut: bytes after which each answer is cut off, by path.
        spoilt: paths of which a byte in the middle is changed.
        ranges: whether ranges are known.
        asked: (path, first byte) of each request.
    """

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    ranges: bool = True
    asked: list[tuple[str, int]] = field(default_factory=list)

    def put(self, path: str, content: bytes, **how) -> None:
        self.files[path] = content
        if how.get("cut"):
            self.cut[path] = how["cut"]
        if how.get("spoilt"):
            self.spoilt.add(path)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = server.files.get(self.path)
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            server.asked.append((self.path, start))
            if content is None:
                self.send_error(404)
                return
            if self.path in server.spoilt:
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            if start >= len(content) and server.ranges and start:
                self.send_error(416)
                return
            partial = server.ranges and start > 0
            rest = content[start:] if partial else content
            self.send_response(206 if partial else 200)
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[: server.cut.get(self.path, len(rest))])
            self.close_connection = True

        def log_message(self, *_) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{http.server_port}/"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()

"""Serves the page on 127.0.0.1, and hands its ubus calls to who answers them."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESOURCES = HERE.parents[1] / "openwrt/luci-app-connbal/htdocs/luci-static/resources"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}

#: Has a method of object ``connbal`` called with these arguments, and returns what was written to standard output.
Run = Callable[[str, Mapping[str, Any]], str]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # at the end, commands that still run are waited for

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that was left before it had its answer is no mistake."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed's types are private


class Host:
    """A context manager. ``calls`` has each method with its arguments; ``said`` has answers in place of connbal's."""

    def __init__(self, run: Run) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.said: dict[str, Any] = {}
        self._run = run
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                file = {"/": HERE / "host.html", "/runtime.js": HERE / "runtime.js"}.get(path)
                if file is None:
                    file = RESOURCES / path.removeprefix("/luci-static/resources/")
                    if not (file.is_file() and file.resolve().is_relative_to(RESOURCES)):
                        self.send_error(404)
                        return
                self._answer(file.read_bytes(), TYPES[file.suffix])

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(json.dumps(host.ubus(**asked)).encode(), "application/json")

            def _answer(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the tests' output."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Host:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls that are no mere look."""
        return [one for one in self.calls if one[0] not in ("status", "list", "check")]

    def ubus(self, object: str, method: str, args: dict[str, Any]) -> dict[str, Any]:
        """What rpcd would say: a document, or that there is no such object or method."""
        self.calls.append((method, args))
        if object != "connbal":
            return {"code": 4}
        if method in self.said:
            return {"answer": self.said[method]}
        output = self._run(method, args)
        # An edit that is written but cannot be applied says so itself, and is followed by an error/1.
        return {"answer": json.JSONDecoder().raw_decode(output.lstrip())[0]}

"""A web server for LuCI's pages as a checkout of LuCI has them, on 127.0.0.1, with a router of the tests behind it."""

from __future__ import annotations

import http.server
import json
import mimetypes
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from tests.luci.stock.access import DIRECTORY, Access
from tests.luci.stock.rpcd import Call, Rpcd
from tests.router.router import Router

OWN = Path(__file__).resolve().parents[3] / "openwrt/luci-app-connbal"
SCRIPT = "/cgi-bin/luci"
RESOURCES = "/luci-static/resources"
#: LuCI's first page, with a box of each package that has one.
OVERVIEW = "admin/status/overview"
INCLUDES = f"{RESOURCES}/view/status/include"
PEER = "/usr/libexec/luci-peeraddr"
#: ubus' status codes as LuCI's own pages pass them on.
HTTP = {0: 200, 2: 400, 3: 404, 4: 404, 5: 204, 6: 403, 7: 504}

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title} - LuCI</title>
<meta name="viewport" content="initial-scale=1.0"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/luci-static/bootstrap/cascade.css">
<link rel="stylesheet" media="only screen and (max-device-width: 854px)" href="/luci-static/bootstrap/mobile.css">
<script>window.TR = {{}};</script><script src="{resources}/cbi.js"></script></head>
<body class="lang_en" data-page="{page}"><header><a class="brand" href="/">router</a><div id="indicators" class="pull-right"></div></header>
<div id="maincontent" class="container"><div id="tabmenu" style="display:none"></div>
{promise}<script src="{resources}/luci.js"></script><script>L = new LuCI({env});</script>
<div id="view"><div class="spinning">Loading</div>
<script>L.require('ui').then(function(ui) {{ ui.instantiateView('{view}'); }});</script></div></div></body></html>
"""  # noqa: E501  markup


class Stock:
    """A context manager. ``luci`` is the checkout; ``write`` false: a session that may only look."""

    def __init__(self, luci: Path, router: Router, write: bool = True) -> None:
        app = luci / "applications/luci-app-mwan3"
        modules = sorted((luci / "modules").iterdir())
        self._www = [app / "htdocs", OWN / "htdocs", *(one / "htdocs" for one in modules),
                     luci / "themes/luci-theme-bootstrap/htdocs"]  # fmt: skip
        roots = [app / "root", OWN / "root", *(one / "root" for one in modules), router.root]
        files = [file for root in roots for file in sorted((root / DIRECTORY).glob("*.json"))]
        includes = sorted(file.name for file in (app / f"htdocs{INCLUDES}").glob("*.js"))
        self.menu: dict[str, Any] = {}
        for root in reversed(roots):
            for file in (root / "usr/share/luci/menu.d").glob("*.json"):
                self.menu.update(json.loads(file.read_text()))
        # LuCI's template for it does no more than to load the view.
        self.menu[OVERVIEW] = {**self.menu[OVERVIEW], "action": {"type": "view", "path": "status/index"}}
        self.rpcd = Rpcd(router, Access(files, write), {f"/www{INCLUDES}": includes})
        self.requests = 0
        self._server = _server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Stock:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def address(self, node: str) -> str:
        """Of a page by its place in the menu, as ``admin/status/mwan3/overview``."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{SCRIPT}/{node}"

    def page(self, node: str) -> bytes | None:
        """The frame that loads a view; None where the menu has no such page, or the session may not see it."""
        action = self.menu.get(node, {}).get("action", {})
        satisfied, readonly = self.rpcd.access.page(self._groups(node))
        if action.get("type") != "view" or not satisfied:
            return None
        spec = {"satisfied": True, "readonly": readonly, "title": self.menu[node].get("title"), "action": action}
        path = node.split("/")
        env = {
            "media": "/luci-static/bootstrap", "resource": RESOURCES, "scriptname": SCRIPT, "pathinfo": f"/{node}",
            "documentroot": "/www", "requestpath": path, "dispatchpath": path, "pollinterval": 5, "ubuspath": "/ubus/",
            "sessionid": "page", "token": "token", "nodespec": spec, "apply_rollback": 90, "apply_holdoff": 1,
            "apply_timeout": 5, "apply_display": 1, "rollback_token": None, "cgi_base": "/cgi-bin",
            "base_url": RESOURCES,
        }  # fmt: skip
        promise = f'<script src="{RESOURCES}/promis.min.js"></script>' if self.file("promis.min.js") else ""
        text = _PAGE.format(
            title=spec["title"], resources=RESOURCES, page="-".join(path), promise=promise, view=action["path"],
            env=json.dumps(env).replace("</", "<\\/"),
        )  # fmt: skip
        return text.encode()

    def _groups(self, node: str) -> list[str]:
        """What a page depends on: its own groups, or those of what it is below."""
        while node:
            found: list[str] = self.menu.get(node, {}).get("depends", {}).get("acl", [])
            if found:
                return found
            node = node.rpartition("/")[0]
        return []

    def file(self, path: str) -> Path | None:
        """A file of the first package that has it."""
        name = path if path.startswith("/") else f"{RESOURCES}/{path}"
        for root in self._www:
            file = root / name.lstrip("/")
            if file.is_file() and file.resolve().is_relative_to(root.resolve()):
                return file
        return None

    def ubus(self, asked: Any) -> Any:
        """The answer to a JSON-RPC request, or to several in one."""
        if isinstance(asked, list):
            return [self.ubus(one) for one in asked]
        said: dict[str, Any] = {"jsonrpc": "2.0", "id": asked.get("id")}
        if asked.get("method") != "call":
            return {**said, "result": {}}
        _, name, method, args = asked["params"]
        done = self.rpcd.call(name, method, args)
        if done.code is None:
            return {**said, "error": {"code": -32002, "message": "Access denied"}}
        if done.code in (3, 4) and done.name not in ("uci", "file"):
            return {**said, "error": {"code": -32000, "message": "Object not found"}}
        return {**said, "result": [done.code] if done.answer is None else [done.code, done.answer]}

    def uci(self, action: str) -> tuple[int, bytes]:
        """Status and text of LuCI's own pages for changes of the configuration."""
        if action == "apply_rollback":
            code = self._uci("apply", {"rollback": True, "timeout": 90})
            return HTTP[code], b'{"token": "token"}' if code == 0 else b""
        if action == "confirm":
            return HTTP[self._uci("confirm", {})], b""
        method = {"revert": "revert", "apply_unchecked": "commit"}[action]
        changes = self.rpcd.uci.call("changes", {})[1] or {}
        for package in changes["changes"]:
            self._uci(method, {"config": package})
            if method == "commit":
                self.rpcd._changed(package)
        return 200 if action == "revert" else 204, b""

    def _uci(self, method: str, args: dict[str, Any]) -> int:
        if not self.rpcd.access.allows("ubus", "uci", method) and method not in ("revert", "commit"):
            return 6
        code, answer = self.rpcd.uci.call(method, args)
        self.rpcd.calls.append(Call("uci", method, args, code, answer))
        return code

    def run(self, words: str) -> tuple[int, bytes]:
        """cgi-io's way to run a program: its output as it is, whatever its exit status."""
        if words == PEER:  # a program of LuCI's own, which looks for the network that the browser is in
            return 200, b"{}"
        argv = [word.replace("\0", " ") for word in words.replace("\\ ", "\0").replace("\\\\", "\\").split()]
        allowed = self.rpcd.access.allows("cgi-io", "exec", "read") and self.rpcd.may_run(argv)
        code, answer = self.rpcd.run(argv) if allowed else (None, None)
        self.rpcd.calls.append(Call("cgi-exec", argv[0], {"params": argv[1:]}, code, answer))
        if code != 0 or answer is None:
            return 403 if code is None else 404, b""
        return 200, str(answer.get("stdout", "")).encode()


def _server(stock: Stock) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            if path.startswith(f"{SCRIPT}/"):
                body = stock.page(path[len(SCRIPT) + 1 :])
                self._answer(200 if body else 404, body or b"", "text/html")
                return
            file = stock.file(path)
            kind = mimetypes.guess_type(path)[0] or "text/plain"
            self._answer(200 if file else 404, file.read_bytes() if file else b"", kind)

        def do_POST(self) -> None:
            stock.requests += 1
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path = urllib.parse.urlsplit(self.path).path
            if path.startswith("/ubus/"):
                self._answer(200, json.dumps(stock.ubus(json.loads(body))).encode(), "application/json")
            elif path == "/cgi-bin/cgi-exec":
                self._answer(*stock.run(urllib.parse.parse_qs(body)["command"][0]), "text/plain")
            elif path.startswith(f"{SCRIPT}/admin/uci/"):
                self._answer(*stock.uci(path.rpartition("/")[2]), "application/json")
            else:
                self._answer(404, b"", "text/plain")

        def _answer(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "max-age=600" if kind == "text/javascript" else "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the terminal."""

    return _Server(("127.0.0.1", 0), Handler)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A page that was left before it had its answer is no mistake."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed's types are private


def settle(stock: Stock, seconds: float = 0.3) -> None:
    """Wait until the page has asked nothing for a while."""
    seen = -1
    while seen != stock.requests:
        seen = stock.requests
        time.sleep(seconds)

"""rpcd as pages meet it over uhttpd: calls that the session may make, answered by a router of the tests."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.node import CommandFailed
from tests.luci.stock.access import Access
from tests.luci.stock.uciobject import DENIED, INVALID, NO_DATA, NO_METHOD, NOT_FOUND, OK, READS, Reply, UciObject
from tests.router.router import Router

TIMED_OUT = 7
#: Seconds that rpcd gives a program.
LIMIT = 30.0
#: Where files of pages are, for whoever lists them.
WWW = "/www/"
#: What pages look at on the side. The router of the tests has none of it.
_FIXED: dict[tuple[str, str], dict[str, Any]] = {
    ("luci", "getFeatures"): {"ipv6": True, "firewall4": False},
    ("luci-rpc", "getBoardJSON"): {},
    ("luci-rpc", "getHostHints"): {},
    ("luci-rpc", "getNetworkDevices"): {},
    ("luci-rpc", "getWirelessDevices"): {},
    ("network", "get_proto_handlers"): {},
}


@dataclass(frozen=True)
class Call:
    """A call that a page made: ``code`` is ubus' status, None where the session may not make it."""

    name: str
    method: str
    args: dict[str, Any]
    code: int | None
    answer: dict[str, Any] | None


class Rpcd:
    """``listed`` are directories of a web server's root, in which ``file list`` finds what is below /www."""

    def __init__(self, router: Router, access: Access, listed: Mapping[str, list[str]]) -> None:
        self.router, self.access, self._listed = router, access, listed
        self.calls: list[Call] = []
        self.uci = UciObject(router.root, "page", self._changed)

    def call(self, name: str, method: str, args: dict[str, Any]) -> Call:
        """One call of a page."""
        args = {key: value for key, value in args.items() if key != "ubus_rpc_session"}
        if self.access.allows("ubus", name, method) or (name, method) == ("session", "access"):
            code, answer = self._answer(name, method, args)
            done = Call(name, method, args, code, answer)
        else:
            done = Call(name, method, args, None, None)
        self.calls.append(done)
        return done

    def _answer(self, name: str, method: str, args: dict[str, Any]) -> Reply:
        if (name, method) == ("session", "access"):
            return OK, {"access": self.access.allows(args["scope"], args["object"], args["function"])}
        if (name, method) in _FIXED:
            return OK, _FIXED[name, method]
        if name == "uci":
            needed = "read" if method in READS else "write"
            if "config" in args and not self.access.allows("uci", str(args["config"]), needed):
                return DENIED, None
            return self.uci.call(method, args)
        if name == "file":
            return self._file(method, args)
        try:
            return OK, self.router.ubus(name, method, args)
        except CommandFailed as failed:
            return (failed.returncode or TIMED_OUT), None

    def _changed(self, package: str) -> None:
        self.router.ubus("service", "event", {"type": "config.change", "data": {"package": package}})

    # -- files

    def _file(self, method: str, args: dict[str, Any]) -> Reply:
        known: dict[str, Callable[[dict[str, Any]], Reply]] = {
            "list": self._list, "stat": self._stat, "read": self._read, "write": self._write, "exec": self._exec,
        }  # fmt: skip
        if method not in known:
            return NO_METHOD, None
        if method != "exec" and not self.access.allows("file", str(args.get("path")), method.replace("stat", "list")):
            return DENIED, None
        try:
            return known[method](args)
        except FileNotFoundError:
            return NOT_FOUND, None

    def _list(self, args: dict[str, Any]) -> Reply:
        path = str(args["path"])
        if path.startswith(WWW):
            return OK, {"entries": [{"name": name, "type": "file"} for name in self._listed.get(path, [])]}
        return OK, {"entries": [_about(file) for file in sorted(self.router.path(path).iterdir())]}

    def _stat(self, args: dict[str, Any]) -> Reply:
        return OK, {"path": args["path"], **_about(self.router.path(args["path"]))}

    def _read(self, args: dict[str, Any]) -> Reply:
        return OK, {"data": self.router.path(args["path"]).read_text()}

    def _write(self, args: dict[str, Any]) -> Reply:
        """rpcd's way: the file as it is, emptied and filled, with the mode that is given or by 0666 and the umask."""
        path = self.router.path(args["path"])
        path.write_text(args["data"])
        path.chmod(args.get("mode", 0o644))
        return OK, None

    def _exec(self, args: dict[str, Any]) -> Reply:
        command, params = args.get("command"), args.get("params") or []
        if not isinstance(command, str) or not all(isinstance(one, str) for one in params):
            return INVALID, None
        if not self.may_run([command, *params]):
            return DENIED, None
        return self.run([command, *params])

    def may_run(self, argv: list[str]) -> bool:
        """The right to run a program with any arguments, or with these, as rpcd and cgi-io look for it."""
        return any(self.access.allows("file", text, "exec") for text in (argv[0], " ".join(argv)))

    def run(self, argv: list[str]) -> Reply:
        """``file exec``'s answer."""
        if not self.router.path(argv[0]).exists():
            return NOT_FOUND, None
        try:
            done = self.router.run(argv, check=False, timeout=LIMIT)
        except CommandFailed:
            return TIMED_OUT, None
        answer: dict[str, Any] = {"code": done.returncode}
        answer.update({key: text for key, text in (("stdout", done.stdout), ("stderr", done.stderr)) if text})
        return OK, answer


def _about(path: Path) -> dict[str, Any]:
    found = path.stat()
    kind = "directory" if stat.S_ISDIR(found.st_mode) else "file"
    return {"name": path.name, "type": kind, "size": found.st_size, "mode": found.st_mode}


__all__ = ["NO_DATA", "Call", "Rpcd"]

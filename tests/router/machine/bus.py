"""The ubus command's other end: netifd, procd, and rpcd with its sessions and plugins; and that of pages' calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

from answers import (
    INVALID_ARGUMENT,
    NO_DATA,
    NO_METHOD,
    NOT_FOUND,
    PERMISSION_DENIED,
    TIMED_OUT,
    Answer,
    document,
    failed,
)
from netifd import Netifd
from services import Services
from sessions import Sessions

PLUGINS = "/usr/libexec/rpcd"
#: Scripts of rpcd's ucode plugin, each an object of its name. Their methods are not played.
UCODE = "/usr/share/rpcd/ucode"
#: Seconds that rpcd gives a plugin.
LIMIT = 30.0
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


class Bus:
    """Objects by name, and what ``ubus list`` and ``ubus call`` do with them."""

    def __init__(self, services: Services, netifd: Netifd) -> None:
        self._services, self._netifd = services, netifd
        self._plugins: dict[str, dict[str, Any]] = {}
        self._ucode: set[str] = set()
        self._sessions = Sessions()
        self.rescan()

    def rescan(self) -> None:
        """Have each plugin list its methods, one after the other, as rpcd does when it starts.

        Libraries come after executables, and what has a name already does not get it.
        """
        self._plugins = {}
        for name in sorted(os.listdir(PLUGINS)) if os.path.isdir(PLUGINS) else ():
            path = os.path.join(PLUGINS, name)
            if os.access(path, os.X_OK):
                _, out = _plugin([path, "list"], "")
                methods = _object(out)
                if methods is not None:
                    self._plugins[name] = methods
        self._ucode = set(os.listdir(UCODE) if os.path.isdir(UCODE) else ()) - self._plugins.keys()

    def web(self, words: list[str]) -> Answer:
        """A page's call by uhttpd: session, object, method, and arguments as JSON."""
        session, name, method, text = words
        args = _object(text)
        if args is None or "ubus_rpc_session" in args:
            return failed(INVALID_ARGUMENT)
        if self._list([name]).status:
            return failed(NOT_FOUND)
        if not self._sessions.allowed(session, "ubus", name, method):
            return failed(PERMISSION_DENIED)
        return self._call(name, method, {**args, "ubus_rpc_session": session}, LIMIT)

    def ask(self, words: list[str]) -> Answer:
        """The command line of ubus without its name."""
        limit = LIMIT
        while words and words[0].startswith("-"):
            option, *words = words
            if option == "-t" and words:
                limit, words = float(words[0]), words[1:]
        if words[:1] == ["list"]:
            return self._list(words[1:])
        if words[:1] == ["call"] and len(words) in (3, 4):
            args = _object(words[3] if len(words) == 4 else "{}")
            return failed(INVALID_ARGUMENT) if args is None else self._call(words[1], words[2], args, limit)
        return Answer(1, "", "Usage: ubus [<options>] <command> [arguments...]\n")

    def _list(self, names: list[str]) -> Answer:
        known = ["network.interface", *(f"network.interface.{name}" for name in self._netifd.names), "rpcd", "service"]
        found = [
            name
            for name in sorted([*known, *Sessions.names, *self._plugins, *self._ucode])
            if not names or name in names
        ]
        return Answer(0, "".join(f"{name}\n" for name in found)) if found else failed(NOT_FOUND)

    def _call(self, name: str, method: str, args: dict[str, Any], limit: float) -> Answer:
        if name == "network.interface" or name.startswith("network.interface."):
            return self._netifd.call(name[len("network.interface.") :] or None, method, args)
        if name == "router" and method == "idle":
            return document({"idle": self._netifd.idle()})
        own: dict[tuple[str, str], Callable[[], Answer]] = {
            ("rpcd", "rescan"): lambda: (self.rescan(), Answer())[1],
            ("service", method): lambda: self._services.call(method, args),
        }
        if (name, method) in own:
            return own[name, method]()
        if name in Sessions.names:
            return self._sessions.call(name, method, args)
        if name in self._ucode:
            return document({"by": "ucode"})
        if name not in self._plugins:
            return failed(NOT_FOUND)
        if method not in self._plugins[name]:
            return failed(NO_METHOD)
        return _reply([os.path.join(PLUGINS, name), "call", method], _text(args), min(limit, LIMIT))


def _reply(argv: list[str], text: str, limit: float) -> Answer:
    status, out = _plugin(argv, text, limit)
    if status is None:
        return failed(TIMED_OUT)
    value = _object(out)
    if value is None:
        return failed(INVALID_ARGUMENT if out.strip() else NO_DATA)
    return document(value)


def _plugin(argv: list[str], text: str, limit: float = LIMIT) -> tuple[int | None, str]:
    """Exit status, None after ``limit`` seconds, and output. The end is that of both outputs, whoever has them."""
    process = subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0o077,
                               stderr=subprocess.PIPE, encoding="utf-8", errors="surrogateescape",
                               start_new_session=True)  # fmt: skip
    try:
        out, _ = process.communicate(text, timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None, ""
    return process.returncode, out


def _text(args: dict[str, Any]) -> str:
    """As JSON, with the bytes that were said where they are no UTF-8: rpcd does not look at them."""
    text = json.dumps(args, ensure_ascii=False)
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return json.dumps(args)
    return text


def _object(text: str) -> dict[str, Any] | None:
    """A JSON object; None for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None

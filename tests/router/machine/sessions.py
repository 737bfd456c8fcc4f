"""rpcd's sessions: who has logged in, what the files in /usr/share/rpcd/acl.d let them do, and what asks for leave.

A page's call goes through uhttpd, which asks ``session access`` and adds the session to the arguments; the objects
``uci`` and ``file`` ask once more, for the scope of their name.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

from answers import INVALID_ARGUMENT, NO_METHOD, NOT_FOUND, PERMISSION_DENIED, Answer, document, failed

from connbal.errors import ConfigError
from connbal.uci.embedded import EmbeddedStore
from connbal.uci.package import Section

ACLS = "/usr/share/rpcd/acl.d"
#: The session of who has not logged in.
NOBODY = "0" * 32
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

#: (scope, object, function); object and function may be patterns.
Grant = tuple[str, str, str]


class Sessions:
    """Sessions by id, and the objects ``session``, ``uci`` and ``file``."""

    names = ("file", "session", "uci")

    def __init__(self) -> None:
        self._granted: dict[str, set[Grant]] = {NOBODY: set(_granted(None))}

    def allowed(self, session: str, scope: str, name: str, function: str) -> bool:
        """Whether a session was granted this, by name or by pattern."""
        return any(
            scope == one and fnmatchcase(name, names) and fnmatchcase(function, functions)
            for one, names, functions in self._granted.get(session, ())
        )

    def call(self, name: str, method: str, args: dict[str, Any]) -> Answer:
        """A call of one of the objects. Without ``ubus_rpc_session`` it comes from the router itself."""
        session = args.get("ubus_rpc_session")
        if name == "session":
            return self._session(method, args)
        known = _FILE if name == "file" else _UCI
        if method not in known:
            return failed(NO_METHOD)
        function, keys, work = known[method]
        words = [args.get(key) for key in keys]
        if not all(isinstance(word, str) for word in words):
            return failed(INVALID_ARGUMENT)
        if session is not None and not self._may(str(session), name, function, words, args):
            return failed(PERMISSION_DENIED)
        return work(args)

    def _may(self, session: str, scope: str, function: str, words: Sequence[Any], args: dict[str, Any]) -> bool:
        if self.allowed(session, scope, words[0], function):
            return True
        line = " ".join([words[0], *map(str, args.get("params") or ())])  # a program may be granted with its arguments
        return function == "exec" and self.allowed(session, scope, line, function)

    def _session(self, method: str, args: dict[str, Any]) -> Answer:
        session = str(args.get("ubus_rpc_session", ""))
        if method == "login":
            login = _login(args.get("username"), args.get("password"))
            if login is None:
                return failed(PERMISSION_DENIED)
            session = os.urandom(16).hex()
            self._granted[session] = set(_granted(login))
            return document({"ubus_rpc_session": session, "acls": self._listed(session)})
        if method not in ("access", "list", "grant", "revoke", "destroy"):
            return failed(NO_METHOD)
        if session not in self._granted:
            return failed(NOT_FOUND)
        if method == "access" and {"object", "function"} <= args.keys():
            words = str(args.get("scope", "ubus")), str(args["object"]), str(args["function"])
            return document({"access": self.allowed(session, *words)})
        if method in ("access", "list"):
            return document(self._listed(session))
        if method == "grant":
            self._granted[session] |= {(str(args.get("scope", "ubus")), *one[:2]) for one in args.get("objects", ())}
        else:
            del self._granted[session]
        return Answer()

    def _listed(self, session: str) -> dict[str, dict[str, list[str]]]:
        """Scope -> object -> functions."""
        found: dict[str, dict[str, list[str]]] = {}
        for scope, name, function in sorted(self._granted[session]):
            found.setdefault(scope, {}).setdefault(name, []).append(function)
        return found


# --- logins and what they are granted -----------------------------------------------------------------------------


def _login(name: object, password: object) -> Section | None:
    """A section ``login`` of /etc/config/rpcd; passwords are as they are here, not hashed."""
    try:
        package = EmbeddedStore("/etc/config").load("rpcd")
    except ConfigError:
        return None
    for section in package.of_type("login"):
        if section.options.get("username") == name and section.options.get("password", "") == password:
            return section
    return None


def _granted(login: Section | None) -> Iterator[Grant]:
    """All that the groups grant whose names a login has among its lists ``read`` and ``write``."""
    for file in sorted(os.listdir(ACLS)):
        if not file.endswith(".json"):
            continue
        with open(os.path.join(ACLS, file)) as stream:
            groups = json.load(stream)
        for group, halves in groups.items():
            for half in ("read", "write"):
                if isinstance(halves.get(half), dict) and _has(login, half, group):
                    yield "access-group", group, half
                    for scope, content in halves[half].items():
                        yield from _of_scope(scope, content, half)


def _of_scope(scope: str, content: Any, half: str) -> Iterator[Grant]:
    """Object -> functions; or a list of objects, whose function is then ``read`` or ``write``."""
    if isinstance(content, list):
        yield from ((scope, name, half) for name in content)
        return
    yield from ((scope, name, function) for name, functions in content.items() for function in functions)


def _has(login: Section | None, half: str, group: str) -> bool:
    if login is None:
        return group == "unauthenticated"
    listed = login.options.get(half, ())
    patterns = () if isinstance(listed, str) else listed  # rpcd looks at lists only
    if any(one.startswith("!") and fnmatchcase(group, one[1:].strip()) for one in patterns):
        return False
    if any(fnmatchcase(group, one) for one in patterns if not one.startswith("!")):
        return True
    return half == "read" and _has(login, "write", group)


# --- objects that ask for leave -----------------------------------------------------------------------------------


def _run(argv: list[str]) -> Answer:
    done = subprocess.run(argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return document({"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr})


def _uci(verb: str) -> Callable[[dict[str, Any]], Answer]:
    def work(args: dict[str, Any]) -> Answer:
        place = ".".join(str(args[key]) for key in ("config", "section", "option") if key in args)
        values = args.get("values", {}) if verb == "set" else {}
        for option, value in values.items() if isinstance(values, dict) else ():
            _run(["uci", "set", f"{place}.{option}={value}"])
        return Answer() if verb == "set" else _run(["uci", verb, place])

    return work


def _read(args: dict[str, Any]) -> Answer:
    try:
        with open(args["path"], errors="replace") as file:
            return document({"data": file.read()})
    except (OSError, ValueError):
        return failed(NOT_FOUND)


def _write(args: dict[str, Any]) -> Answer:
    try:
        with open(args["path"], "w") as file:
            file.write(args["data"])
    except (OSError, ValueError):
        return failed(NOT_FOUND)
    return Answer()


#: Method -> function to be granted, arguments it needs (the first is the object to be granted), what it does.
_UCI: dict[str, Any] = {
    "get": ("read", ("config",), _uci("show")), "set": ("write", ("config", "section"), _uci("set")),
    "delete": ("write", ("config", "section"), _uci("delete")), "commit": ("write", ("config",), _uci("commit")),
    "revert": ("write", ("config",), _uci("revert")),
}  # fmt: skip
_FILE: dict[str, Any] = {
    "read": ("read", ("path",), _read), "write": ("write", ("path", "data"), _write),
    "exec": ("exec", ("command",), lambda args: _run([args["command"], *map(str, args.get("params") or ())])),
}  # fmt: skip

"""What procd does with services: starts what init scripts describe, again where it ends, and reloads on triggers."""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from answers import Answer, document

#: procd's own: seconds a process has to end, and seconds it waits before it tells a service of a changed package.
TERM_TIMEOUT, TRIGGER_DELAY = 5.0, 1.0
#: Parameters with which a process is started anew where they change.
MATTERS = ("command", "env", "netdev", "file", "nice", "user", "group", "pidfile", "respawn", "reload_signal",
           "term_timeout", "seccomp", "capabilities", "limits", "no_new_privs")  # fmt: skip
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


@dataclass
class Instance:
    """One process of a service, as described: each parameter's words."""

    params: dict[str, list[str]] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    restarts: int = 0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def number(self, name: str, index: int, otherwise: float) -> float:
        """A number of a parameter; procd takes what makes no sense for its default."""
        words = self.params.get(name, [])
        try:
            return float(words[index])
        except (IndexError, ValueError):
            return otherwise


class Services:
    """All services by name."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._services: dict[str, dict[str, Instance]] = {}
        self._triggers: dict[str, tuple[str, list[str]]] = {}

    def ask(self, words: list[str]) -> Answer:
        """``set NAME SCRIPT DESCRIPTION...``, ``kill NAME [INSTANCE]``, ``running``, ``signal NAME INSTANCE SIG``."""
        verb, name, *rest = [*words, ""]
        if verb == "set":
            self._set(name, rest)
            return Answer()
        instances = self._chosen(name, rest[0])
        if verb == "running":
            return Answer(0 if any(one.running for one in instances) else 1)
        if verb == "kill":
            with self._lock:
                self._services.pop(name, None)
                self._triggers.pop(name, None)
            for one in instances:  # procd does not wait for the end either
                one.wanted = False
                threading.Thread(target=self._end, args=(one,), daemon=True).start()
            return Answer()
        for one in instances:
            if one.process is not None and one.running:
                one.process.send_signal(_signal(rest[1]))
        return Answer()

    def call(self, method: str, args: dict[str, Any]) -> Answer:
        """The ubus object ``service``: ``list``, ``event``, ``delete``."""
        if method == "event":
            self._event(args.get("type"), args.get("data", {}).get("package"))
            return Answer()
        if method == "delete":
            return self.ask(["kill", str(args.get("name", "")), str(args.get("instance", ""))])
        with self._lock:
            chosen = {n: s for n, s in self._services.items() if args.get("name") in (None, n)}
            return document({name: {"instances": {key: _said(one) for key, one in instances.items()}}
                             for name, instances in chosen.items()})  # fmt: skip

    def _chosen(self, name: str, instance: str) -> list[Instance]:
        with self._lock:
            found = self._services.get(name, {})
            return [one for key, one in found.items() if instance in ("", key)]

    def _set(self, name: str, words: list[str]) -> None:
        """Take over a description: what changed is replaced, what did not is left alone, what is gone is ended."""
        script, triggers, described = _parse(words)
        with self._lock:
            before = self._services.setdefault(name, {})
            self._triggers[name] = (script, triggers)
            for key in [*before]:
                if key not in described:
                    self._replace(before.pop(key), None)
            for key, params in described.items():
                old = before.get(key)
                if old is not None and old.wanted and _matters(old.params) == _matters(params):
                    old.params = params
                    if not old.running:
                        self._start(old)
                    continue
                before[key] = Instance(params)
                self._replace(old, before[key])

    def _replace(self, old: Instance | None, new: Instance | None) -> None:
        def run() -> None:
            if old is not None:
                self._end(old)
            if new is not None and new.wanted:
                self._start(new)

        if old is not None:
            old.wanted = False
        threading.Thread(target=run, daemon=True).start()

    def _start(self, one: Instance) -> None:
        with self._lock:
            if not one.wanted or one.running:
                return
            extra = dict(word.split("=", 1) for word in one.params.get("env", []))
            with open("/tmp/log/services.log", "ab") as log:
                one.process = subprocess.Popen(
                    one.params["command"],
                    env={**ENVIRONMENT, **extra},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=functools.partial(_limit, one.params.get("limits", [])),
                )
        threading.Thread(target=self._watch, args=(one, one.process, time.monotonic()), daemon=True).start()

    def _watch(self, one: Instance, process: subprocess.Popen[bytes], began: float) -> None:
        process.wait()
        if "respawn" not in one.params or not one.wanted:
            return
        lasted = time.monotonic() - began
        one.restarts = 0 if lasted > one.number("respawn", 0, 3600) else one.restarts + 1
        limit = one.number("respawn", 2, 5)
        if limit and one.restarts > limit:
            return
        time.sleep(one.number("respawn", 1, 5))
        if one.wanted and one.process is process:
            self._start(one)

    @staticmethod
    def _end(one: Instance) -> None:
        process = one.process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(one.number("term_timeout", 0, TERM_TIMEOUT))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _event(self, kind: object, package: object) -> None:
        with self._lock:
            found = [script for script, packages in self._triggers.values() if package in packages]
        if kind != "config.change":
            return
        for script in found:
            threading.Timer(TRIGGER_DELAY, subprocess.run, ([script, "reload"],), {"stdin": subprocess.DEVNULL,
                            "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT,
                            "check": False}).start()  # fmt: skip


def _matters(params: dict[str, list[str]]) -> dict[str, list[str]]:
    """What makes procd start a process anew."""
    return {key: value for key, value in params.items() if key in MATTERS}


def _limit(words: list[str]) -> None:
    """Limits as procd sets them: ``NAME=SOFT``, ``NAME=SOFT HARD`` or ``NAME=unlimited``; an unknown one is nothing."""
    for word in words:
        name, _, value = word.partition("=")
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            continue
        if value == "unlimited":
            resource.setrlimit(number, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            continue
        soft, *hard = [int(one) for one in value.split()[:2]]
        resource.setrlimit(number, (soft, *hard) if hard else (soft, resource.getrlimit(number)[1]))


def _parse(words: list[str]) -> tuple[str, list[str], dict[str, dict[str, list[str]]]]:
    """Script, packages that trigger a reload, and each instance's parameters."""
    script, triggers = words[0], []
    described: dict[str, dict[str, list[str]]] = {}
    params: dict[str, list[str]] = {}
    rest = iter(words[1:])
    for word in rest:
        if word == "instance":
            params = described.setdefault(next(rest), {})
        elif word == "trigger":
            triggers.append(next(rest))
        elif word in ("param", "append"):
            name, count = next(rest), int(next(rest))
            values = [next(rest) for _ in range(count)]
            params[name] = [*params.get(name, []), *values] if word == "append" else values
    return script, triggers, described


def _said(one: Instance) -> dict[str, Any]:
    said: dict[str, Any] = {"running": one.running, "command": one.params.get("command", [])}
    if one.process is not None and one.running:
        said["pid"] = one.process.pid
    if "respawn" in one.params:
        defaults = {"threshold": 3600, "timeout": 5, "retry": 5}
        said["respawn"] = {key: int(one.number("respawn", i, d)) for i, (key, d) in enumerate(defaults.items())}
    return said


def _signal(text: str) -> signal.Signals:
    """A signal by its number or its name without SIG; none is the one that asks for a reload."""
    if text.isdigit():
        return signal.Signals(int(text))
    return signal.Signals[f"SIG{text or 'HUP'}"]

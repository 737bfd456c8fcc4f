"""What netifd does with interfaces: brings them up and down, tells of them, and runs hotplug scripts in turn."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from typing import Any

from answers import NO_METHOD, NOT_FOUND, Answer, document, failed

#: One entry for each interface: ``dump`` as it is when up and when down, and the lines of ``ip`` that make it so.
FILE = "/lib/router/interfaces.json"
#: Run in the background of an interface that is brought up or down, with ``setup`` or ``teardown`` and its name.
PROTO = "/lib/netifd/proto.sh"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/"}


class Netifd:
    """All interfaces. Setting them up happens side by side, their events one after the other."""

    def __init__(self) -> None:
        with open(FILE) as file:
            self._known: dict[str, Any] = json.load(file)
        self._up = {name: bool(one["up"]) for name, one in self._known.items()}
        self._since = dict.fromkeys(self._known, time.monotonic())
        self._lock = threading.Lock()
        self._events: queue.Queue[tuple[str, str]] = queue.Queue()
        self._orders: dict[str, queue.Queue[bool]] = {name: queue.Queue() for name in self._known}
        self._busy = 0
        for name in self._known:
            threading.Thread(target=self._follow, args=(name,), daemon=True).start()
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def names(self) -> list[str]:
        """Names of the interfaces."""
        return list(self._known)

    def call(self, name: str | None, method: str, args: dict[str, Any]) -> Answer:
        """The object ``network.interface``, or with ``name`` that of one interface."""
        if name is None and method == "dump":
            return document({"interface": [self._said(one) for one in self._known]})
        name = name or str(args.get("interface", ""))
        if name not in self._known:
            return failed(NOT_FOUND)
        if method == "status":
            said = self._said(name)
            del said["interface"]
            return document(said)
        if method in ("up", "down"):
            with self._lock:
                self._busy += 1
            self._orders[name].put(method == "up")
            return Answer()
        if method == "update":  # not netifd's own: a protocol handler would say that addresses have changed
            self._tell("ifupdate", name)
            return Answer()
        return failed(NO_METHOD)

    def idle(self) -> bool:
        """Whether nothing is being set up and no event waits."""
        with self._lock:
            return self._busy == 0

    def _said(self, name: str) -> dict[str, Any]:
        with self._lock:
            up = self._up[name]
        said = dict(self._known[name]["when_up" if up else "when_down"])
        if up:
            said["uptime"] = int(time.monotonic() - self._since[name])
        return said

    def _follow(self, name: str) -> None:
        """Carry out what one interface is told, in order."""
        while True:
            up = self._orders[name].get()
            try:
                self._change(name, up)
            finally:
                with self._lock:
                    self._busy -= 1

    def _change(self, name: str, up: bool) -> None:
        _proto("setup" if up else "teardown", name)
        lines = self._known[name]["lines_up" if up else "lines_down"]
        if lines:
            subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines) + "\n", text=True,
                           env=ENVIRONMENT, capture_output=True, check=False)  # fmt: skip
        with self._lock:
            changed, self._up[name] = self._up[name] != up, up
            self._since[name] = time.monotonic()
        if changed:
            self._tell("ifup" if up else "ifdown", name)

    def _tell(self, action: str, name: str) -> None:
        with self._lock:
            self._busy += 1
        self._events.put((action, name))

    def _work(self) -> None:
        while True:
            action, name = self._events.get()
            env = {**ENVIRONMENT, "ACTION": action, "INTERFACE": name}
            if action in ("ifup", "ifupdate"):
                env["DEVICE"] = self._known[name]["when_up"].get("l3_device", "")
            if action == "ifupdate":
                env["IFUPDATE_ADDRESSES"] = "1"
            began = time.monotonic()
            _run(["/sbin/hotplug-call", "iface"], env)
            with open("/tmp/router/events", "a") as file:
                file.write(f"{action} {name} {time.monotonic() - began:.4f}\n")
            with self._lock:
                self._busy -= 1


def _proto(what: str, name: str) -> None:
    if os.path.exists(PROTO):
        _run([PROTO, what, name], ENVIRONMENT)


def _run(argv: list[str], env: dict[str, str]) -> None:
    """Run to its end, which is not the end of what it leaves behind."""
    with open("/tmp/log/hotplug.log", "ab") as log:
        subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=120)

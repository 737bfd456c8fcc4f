"""mwan3 on this machine: its rules and routes in the kernel, its processes, its files.

Nothing here decides what is mwan3's in the kernel: that is :mod:`connbal.plan.leftovers`. A process is, if it runs the
script of that path, in this network namespace.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel import messages, rtnl
from connbal.kernel.files import parse_json
from connbal.kernel.netlink import NLM_F_CREATE
from connbal.kernel.routing import NO_COUNTERS, SystemRouting, route_message, rule_message
from connbal.plan.describe import rule_text
from connbal.plan.leftovers import FoundRoute, FoundRule, route_words

#: mwan3's long-lived processes, each a shell script started by procd.
SCRIPTS = ("/usr/sbin/mwan3track", "/usr/sbin/mwan3rtmon")
_SHELLS = frozenset({"sh", "ash", "busybox", "bash", "dash"})
#: Files that the package mwan3 brings and connbal does not. While they are there, every hotplug event starts mwan3 or
#: runs the user's script once more; and rpcd's ucode plugin offers the object ``mwan3`` a second time.
PACKAGE_FILES = (
    *SCRIPTS, "/etc/hotplug.d/iface/15-mwan3", "/etc/hotplug.d/iface/16-mwan3-user", "/lib/mwan3/mwan3.sh",
    "/lib/mwan3/common.sh", "/usr/share/rpcd/ucode/mwan3", "/etc/uci-defaults/mwan3-migrate-flush_conntrack",
)  # fmt: skip
#: Below the run directory: what mwan3 keeps, and nobody else reads. The last is the state that uci keeps for it.
STATE = ("mwan3/iface_state", "mwan3/iptables_log", "mwan3/mmx_mask", "mwan3.lock", "../state/mwan3")
#: Seconds that a process has to end by itself.
PATIENCE = 5.0

_RTM_GETLINK, _RTM_DELROUTE, _RTM_GETROUTE, _RTM_NEWRULE, _RTM_DELRULE = 18, 25, 26, 32, 33


class RivalRouting(SystemRouting):
    """Rules and routes of everybody, and taking single ones away."""

    def found(self) -> tuple[tuple[FoundRule, ...], tuple[FoundRoute, ...]]:
        """All rules that connbal can describe, and all routes with one next hop or none."""
        links = self._dump(_RTM_GETLINK, "ip link", messages.LINK, NO_COUNTERS)
        names = {link.index: link.name for link in map(rtnl.link_of, links) if link is not None}
        routes = self._dump(_RTM_GETROUTE, "ip route show table all", messages.ROUTE)
        known = [route for route in map(rtnl.route_of, routes) if route is not None]
        described = [(rtnl.any_route(route, names), route) for route in known]
        return (
            tuple(FoundRule(*told) for told in map(rtnl.any_rule, self._rules()) if told is not None),
            tuple(FoundRoute(one, route.protocol, route.type) for one, route in described if one is not None),
        )

    def remove_rule(self, found: FoundRule) -> bool:
        """Remove a rule that is not connbal's; whether it is gone. That it was gone already is no error.

        The kernel takes the oldest rule that has all of what is asked for, whatever else it has; and whoever made it,
        where no protocol is asked for, as rules of the ip command have none. So those before the one that is meant are
        removed as well and put back. One of them that connbal cannot describe cannot be put back: then nothing is
        removed.
        """
        told = [FoundRule(*one) for one in map(rtnl.any_rule, self._rules()) if one is not None]
        taken = [one for one in told if _would_take(one, found)]
        if found not in taken:
            return True
        before = taken[: taken.index(found)]
        if not all(one.plain for one in before):
            return False
        for one in [*before, found]:
            message = rule_message(one.rule, one.protocol)
            self._unless_gone(message, _RTM_DELRULE, f"ip rule del {rule_text(one.rule)}")
        for one in before:
            message = rule_message(one.rule, one.protocol)
            self._netlink.request(message, _RTM_NEWRULE, NLM_F_CREATE, f"ip rule add {rule_text(one.rule)}")
        return True

    def remove_route(self, found: FoundRoute) -> None:
        """Remove a route that is not connbal's. That it, or its device, is gone already is no error."""
        route = found.route
        try:
            index = socket.if_nametoindex(route.device) if route.device else 0
        except OSError:
            return
        message = route_message(route, index, delete=True, protocol=found.protocol, type_=found.type)
        self._unless_gone(message, _RTM_DELROUTE, f"ip route del {route_words(found)}")


def _would_take(one: FoundRule, asked: FoundRule) -> bool:
    """Whether the kernel takes ``one`` for a rule to delete that is described as ``asked``."""
    rule, wanted = one.rule, asked.rule
    return (
        (rule.family, rule.priority, rule.action, rule.table)
        == (wanted.family, wanted.priority, wanted.action, wanted.table)
        and (not asked.protocol or one.protocol == asked.protocol)
        and (not wanted.mask or (rule.mark, rule.mask) == (wanted.mark, wanted.mask))
        and (not wanted.iif or rule.iif == wanted.iif)
    )


# --- processes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Process:
    """A process of mwan3's."""

    pid: int
    script: str  #: of SCRIPTS
    arguments: tuple[str, ...]

    @property
    def interface(self) -> str:
        """Which interface a tracker tracks; empty: it is no tracker."""
        return self.arguments[0] if self.script.endswith("track") and self.arguments else ""


def processes(proc: Path = Path("/proc")) -> tuple[Process, ...]:
    """mwan3's processes in this network namespace, by process id."""
    own = _namespace(proc / "self")
    found = (_process(proc, int(entry.name)) for entry in proc.iterdir() if entry.name.isdigit())
    return tuple(sorted((one for one in found if one and _namespace(proc / str(one.pid)) == own),
                        key=lambda one: one.pid))  # fmt: skip


def _process(proc: Path, pid: int) -> Process | None:
    try:
        raw = (proc / str(pid) / "cmdline").read_bytes()
    except OSError:
        return None
    words = [word.decode("utf-8", "replace") for word in raw.rstrip(b"\0").split(b"\0")]
    if os.path.basename(words[0]) in _SHELLS:
        words = words[2:] if words[1:2] in (["sh"], ["ash"]) else words[1:]
    return Process(pid, words[0], tuple(words[1:])) if words and words[0] in SCRIPTS else None


def _namespace(process: Path) -> str:
    try:
        return os.readlink(process / "ns" / "net")
    except OSError:
        return ""


def end(process: Process) -> bool:
    """Let a process end, by force after PATIENCE seconds. False where it had ended, or its number is another's now.

    Raises KernelError: it may not be ended.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError(f"kill {process.pid}", None, error.strerror or str(error)) from error
    try:
        if _process(Path("/proc"), process.pid) != process:  # looked at again now that the handle holds it
            return False
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], PATIENCE)[0]:
                return True
        raise KernelError(f"kill {process.pid}", None, "it does not end")
    except PermissionError as error:
        raise KernelError(f"kill {process.pid}", None, "Operation not permitted") from error
    finally:
        os.close(handle)


def supervised() -> bool:
    """Whether procd keeps mwan3's own scripts running as service ``mwan3``; without ubus nobody does."""
    if programs.find("ubus") is None:
        return False
    command = ["ubus", "call", "service", "list", '{"name":"mwan3"}']
    result = programs.run(command, timeout=5.0, check=False)
    if result.returncode:
        return False
    try:
        answer = parse_json(result.stdout, " ".join(command))
    except KernelError:
        return False
    return any(word in SCRIPTS for word in _commands(answer))


def _commands(answer: object) -> Iterator[str]:
    service: Any = answer.get("mwan3") if isinstance(answer, dict) else None
    instances = service.get("instances") if isinstance(service, dict) else None
    for instance in instances.values() if isinstance(instances, dict) else ():
        words = instance.get("command") if isinstance(instance, dict) else None
        yield from (word for word in words if isinstance(word, str)) if isinstance(words, list) else ()


def release() -> None:
    """Have procd forget service ``mwan3`` and end what it keeps running. mwan3's own ``stop`` is not run: it would
    flush others' routing tables. Raises KernelError.
    """
    programs.run(["ubus", "call", "service", "delete", '{"name":"mwan3"}'], timeout=10.0)
    until = time.monotonic() + PATIENCE
    while processes() and time.monotonic() < until:
        time.sleep(0.05)


# --- files ------------------------------------------------------------------------------------------------------


def offline(run_dir: Path, running: tuple[Process, ...]) -> frozenset[str]:
    """The interfaces that running trackers say are offline."""
    found = set()
    for process in running:
        with contextlib.suppress(OSError, UnicodeError):
            name = process.interface
            if name and "/" not in name and (run_dir / "mwan3track" / name / "STATUS").read_text().strip() == "offline":
                found.add(name)
    return frozenset(found)


def installed() -> tuple[str, ...]:
    """Files of the package mwan3 that are still there."""
    return tuple(path for path in PACKAGE_FILES if os.path.exists(path))


def state_files(run_dir: Path) -> tuple[str, ...]:
    """What mwan3 left below the run directory."""
    paths = (os.path.normpath(run_dir / name) for name in STATE)
    return tuple(path for path in paths if os.path.lexists(path))


def remove_state(path: str) -> None:
    """Remove one of :func:`state_files`: a file, or a directory of files. KernelError where that is refused."""
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            for entry in os.listdir(path):
                os.unlink(os.path.join(path, entry))
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError(f"rm {path}", None, error.strerror or str(error)) from error

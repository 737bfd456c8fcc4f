"""What tests of the daemon look at again and again."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import Lab
from tests.netns.daemon.service import PATIENCE, Service, Status

Labs = Callable[..., Lab]
SITE6 = "2001:db8:ffff::1"
READ = "configuration read"
CHANGES_OF_STATE = ("connected", "disconnected", "ifup", "ifdown")


def wait_until(good: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not good():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.05)


def working(daemon: Service, *names: str) -> None:
    """Wait until these are online, and not only taken as such: a host has answered since they came up."""

    def good(status: Status) -> bool:
        found = [status["interfaces"].get(name) for name in names]
        return all(one and one["online"] and any(host["state"] == "up" for host in one["hosts"]) for one in found)

    daemon.wait(good, f"{', '.join(names)} to work")


def changes_of_state(daemon: Service, after: int = 0) -> list[str]:
    """What its journal tells of sources that came or went."""
    found = [one for one in daemon.events(after) if one["kind"] in CHANGES_OF_STATE]
    return [f"{one['interface']} {one['kind']}" for one in found]


def causes(daemon: Service, after: int = 0) -> list[str]:
    """Why it has looked at the kernel. Links of the lab that has just been made may still be among it."""
    return [cause for one in daemon.events(after) if one["kind"] == "reconcile" for cause in one["causes"]]


def with_option(text: str, interface: str, option: str, value: str) -> str:
    """A configuration in which an option of an interface has another value."""
    head, begin, rest = text.partition(f"config interface '{interface}'\n")
    section, end, rest = rest.partition("\n\n")
    changed = re.sub(rf"(option {option}) '[^']*'", rf"\1 '{value}'", section)
    assert changed != section
    return head + begin + changed + end + rest


def reload(daemon: Service, text: str, *, hangup: bool = True) -> None:
    """Give it another configuration, and wait until that is in force."""
    last = daemon.last()
    daemon.configure(text)
    if hangup:
        daemon.signal(signal.SIGHUP)

    def done() -> bool:
        kinds = [one["kind"] for one in daemon.events(last) if one.get("text", READ).startswith(READ)]
        return "daemon" in kinds and "reconcile" in kinds[kinds.index("daemon") :]

    wait_until(done, "the configuration to be read")


def told_by_hooks(daemon: Service) -> Path:
    """Have the user's script write down each event; returns where."""
    told = daemon.lab.tmp / "told"
    told.touch()
    daemon.user_script.write_text(f'echo "$INTERFACE $ACTION" >>{told}\n')
    return told

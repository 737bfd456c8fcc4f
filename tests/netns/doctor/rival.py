"""A lab whose router is as the real mwan3 left one, with its processes; everything in the lab's own addresses."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator

from tests.lab import Lab
from tests.netns.mwan3.vector import Vector

VECTOR = Vector.load("05-metric-groups")
SOURCES = ("wan", "wanb", "wanc", "wand")


def config() -> str:
    """The captured configuration, without the hosts that a lab does not have."""
    return re.sub(r"\tlist track_ip .*\n", "", VECTOR.config)


def _here(lab: Lab, text: str) -> str:
    """Captured text with the lab's devices. Addresses are the lab's: 10.N.0.2 and the gateway 10.N.0.1 there too."""
    for number, name in enumerate(SOURCES, 1):
        text = re.sub(rf"\bwan{number}\b", lab.source(name).device, text)
    return text


def plant(lab: Lab) -> None:
    """mwan3's captured state."""
    lab.router.run(["ipset", "restore"], input="".join(
        f"{line}\n" for line in VECTOR.own_sets().splitlines() if "192.168.2." not in line
    ))  # fmt: skip
    for tool, version in (("iptables-restore", 4), ("ip6tables-restore", 6)):
        lab.router.run([tool, "--noflush"], input=_here(lab, VECTOR.mangle(version)))
    for version in (4, 6):
        lines = [_here(lab, line) for line in VECTOR.policy_routing(version) if "br-guest" not in line]
        lab.router.run(["ip", f"-{version}", "-batch", "-"], input="".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def processes(lab: Lab) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """What looks like mwan3's processes in the router, and what only nearly does: ``elsewhere``, ``editor``."""
    tail = shutil.which("tail")
    assert tail
    words = {
        "rtmon": ["/usr/sbin/mwan3rtmon", "ipv4"],
        "wan": ["/usr/sbin/mwan3track", "wan", lab.source("wan").device],
        "wand": ["/usr/sbin/mwan3track", "wand", lab.source("wand").device],
        "editor": ["vi", "/usr/sbin/mwan3track"],
        "elsewhere": ["/usr/sbin/mwan3track", "wan"],
    }
    made = {}
    with contextlib.ExitStack() as stack:
        for name, argv in words.items():
            with lab.node("pc" if name == "elsewhere" else "router").enter():
                # The words are what counts: tail complains that they are no files, and follows the one there is.
                made[name] = subprocess.Popen(
                    [*argv, "-f", "/dev/null"], executable=tail, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
            stack.callback(made[name].wait, 10)
            stack.callback(made[name].kill)
        yield made

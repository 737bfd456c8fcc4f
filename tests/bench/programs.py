"""Whole programs, timed from their start to their end in the router of a lab, and the floors that others stand on."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from tests.bench.results import Floor
from tests.lab import Lab
from tests.lab.node import Node

PASS, CLICK, PYROUTE2, SHELL = (
    "python3 -c pass", 'python3 -c "import click"', 'python3 -c "import pyroute2"', "sh -c :",
)  # fmt: skip
TRIP = "one netlink round trip"
#: Bare programs, by the names that they have in the table.
BARE: Mapping[str, tuple[str, ...]] = {
    SHELL: ("sh", "-c", ":"),
    PASS: (sys.executable, "-c", "pass"),
    CLICK: (sys.executable, "-c", "import click"),
    PYROUTE2: (sys.executable, "-c", "import pyroute2"),
}
_RTM_GETLINK, _NLM_F_REQUEST, _IFNAME_LO = 18, 1, 1


def environment(lab: Lab) -> dict[str, str]:
    """Of programs in the router: everything is compiled once, as on a router, and not in the source tree."""
    found = {**os.environ, **lab.router.env, "LC_ALL": "C.UTF-8", "CONNBAL_CONFIG_DIR": str(lab.config_dir),
             "CONNBAL_RUN_DIR": str(lab.run_dir)}  # fmt: skip
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    found["PYTHONPYCACHEPREFIX"] = str(lab.tmp / "compiled")
    return found


def timed(node: Node, argv: Sequence[str], env: Mapping[str, str], text: str = "") -> float:
    """Seconds that a program takes which reads ``text``; AssertionError, with what it said, where it fails.

    It is started in the namespace without another program in between, and what it prints goes to ``/dev/null``.
    """
    with node.enter():
        begin = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(env), stdin=subprocess.PIPE if text else subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
        said = process.communicate(text or None, timeout=120)[1]
        took = time.perf_counter() - begin
    assert process.returncode == 0, f"{' '.join(argv)} ended with {process.returncode}: {said.strip()}"
    return took


def trip(node: Node) -> float:
    """Seconds from a question to the kernel (a link's state) to its answer."""
    with node.enter(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, _IFNAME_LO, 0, 0)
        message = struct.pack("=IHHII", 16 + len(body), _RTM_GETLINK, _NLM_F_REQUEST, 1, 0) + body
        begin = time.perf_counter()
        link.send(message)
        link.recv(1 << 16)
        return time.perf_counter() - begin


class Floors:
    """The bare programs, which take turns with everything else."""

    def __init__(self, lab: Lab, names: Sequence[str] = (*BARE, TRIP)) -> None:
        self._lab, self._env = lab, environment(lab)
        self.samples: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            self._take(name)  # compiles

    def turn(self) -> None:
        """Each once."""
        for name, samples in self.samples.items():
            samples.append(self._take(name))

    def _take(self, name: str) -> float:
        router = self._lab.router
        return trip(router) if name == TRIP else timed(router, BARE[name], self._env)

    def floor(self, name: str) -> Floor:
        return Floor(name, tuple(self.samples[name]))

"""The lab: a router, its LAN and its Internet sources as network namespaces on one machine.

    with Lab(sources=("wan", "wan1")) as lab:
        lab.router.run(["ip", "rule", "add", "iif", "br-lan", "lookup", "1"])
        print(lab.tcp("tv", "203.0.113.7", count=100).names)      # Counter({'wan': 100})
        lab.cut("wan")

Everything happens inside namespaces that the lab made. The machine's own rules, routes, tables,
sysctls and firewall are never touched.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.lab.kernel_text import snapshot
    from tests.lab.lab import Lab
    from tests.lab.node import CommandFailed, LabError, Node
    from tests.lab.owners import sweep
    from tests.lab.results import Answer, Answers
    from tests.lab.topology import Spec
    from tests.lab.traffic import ConstantTraffic, Stream

_HOME = {
    "Answer": "results",
    "Answers": "results",
    "CommandFailed": "node",
    "ConstantTraffic": "traffic",
    "Lab": "lab",
    "LabError": "node",
    "Node": "node",
    "Spec": "topology",
    "Stream": "traffic",
    "snapshot": "kernel_text",
    "sweep": "owners",
}

__all__ = [
    "Answer",
    "Answers",
    "CommandFailed",
    "ConstantTraffic",
    "Lab",
    "LabError",
    "Node",
    "Spec",
    "Stream",
    "snapshot",
    "sweep",
]


def __getattr__(name: str) -> Any:
    # Lazy, because the agents live in a package below this one and must start in milliseconds.
    if name in _HOME:
        return getattr(import_module(f"tests.lab.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

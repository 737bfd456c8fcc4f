"""What ``connbal apply`` and the daemon import by the time they have done all that they do.

What costs is the import of modules: time in one, memory in the other. A router is 20 to 50 times slower than a PC, and
has 64 to 256 MB.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest

from tests.lab import Lab
from tests.netns.daemon.service import Service, tracked

pytestmark = pytest.mark.netns

#: What they are made of, with all that these bring.
APPLY = (
    "__future__", "click", "dataclasses", "fcntl", "fractions", "gc", "hashlib", "ipaddress", "json", "locale",
    "logging", "pathlib", "runpy", "socket", "struct", "subprocess",
)  # fmt: skip
#: The codec for names of hosts: icmplib looks each address up as if it were one.
DAEMON = (*APPLY, "asyncio", "concurrent.futures.thread", "encodings.idna", "icmplib", "resource")
#: What the machine's Python begins with, and libuci's binding, where they are there.
OPTIONAL = frozenset({"sitecustomize", "usercustomize", "_distutils_hack", "uci", "_uci"})
#: Modules of connbal that are for people who ask questions, and those that only some machines need.
ELSEWHERE = (
    "connbal.plan.explain", "connbal.plan.lint", "connbal.cli.shapes", "connbal.rpcd", "connbal.track.diagnosis",
    "connbal.uci.scenario", "connbal.uci.operations", "connbal.kernel.rival",
)  # fmt: skip
PROFILED = ("-X", "importtime", "-m", "connbal.cli.main")


class Telling(Service):
    """A daemon that writes into its log what it imports."""

    program = PROFILED


def imported(text: str) -> set[str]:
    """The modules that ``-X importtime`` told of. It tells of those that were not found, too: they are left out."""
    told = {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}
    return {name for name in told if _there(name)}


def _there(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def brought(modules: Iterable[str]) -> set[str]:
    """The modules that a bare Python has imported once it has imported these."""
    code = f"import {', '.join(modules)}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def hold(found: set[str], libraries: Iterable[str]) -> None:
    """Nothing was imported but these libraries, and connbal's own modules that have to do with it."""
    others = {name for name in found if name.partition(".")[0] not in ("connbal", "encodings", "imported package")}
    assert others - brought(libraries) - OPTIONAL == set()
    ours = {name for name in found if name.startswith(ELSEWHERE)} - {"connbal.plan.explain_route"}
    assert not ours


def test_apply(lab: Callable[..., Lab]) -> None:
    one = lab(["wan", "wan1"])
    (one.config_dir / "mwan3").write_text(tracked(one))
    service = Telling(one)
    done = one.router.run(service.argv("apply"))
    assert "changes:" in done.stdout
    hold(imported(done.stderr), APPLY)


def test_the_daemon(lab: Callable[..., Lab]) -> None:
    one = lab(["wan", "wan1"])
    service = Telling(one)
    service.configure(tracked(one))
    with service:
        service.wait_for(one.spec.sources, "online")
        one.cut("wan1")
        service.wait_for(["wan1"], "offline")
        service.connbal("status")
    hold(imported(service.log.read_text()), DAEMON)

"""Runs a test's body in a network namespace of its own that ends with it, whatever happens.

The body runs in a forked child that has left the machine's namespace with ``unshare``. The namespace has no name: the
kernel takes it away, with all that is in it, when the child is gone, even if the child is killed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000
#: Seconds a body may take.
_LIMIT = 90
_FAILED, _SKIPPED = b"F", b"S"


def isolated(test: Callable[..., None]) -> Callable[..., None]:
    """Decorator of a test function."""

    @functools.wraps(test)
    def outer(*args: Any, **keywords: Any) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _body(lambda: test(*args, **keywords), writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            verdict = stream.read()
        _, status = os.waitpid(child, 0)
        text = verdict[1:].decode(errors="replace")
        if verdict[:1] == _SKIPPED:
            pytest.skip(text)
        if verdict or status:
            pytest.fail(text or f"the test's process ended with status {status}", pytrace=False)

    return outer


def _body(test: Callable[[], None], writer: int) -> None:
    """Never returns: what follows in the parent's stack must not run twice."""
    verdict = b""
    try:
        signal.alarm(_LIMIT)
        unshare_network()
        run("ip link set lo up")
        test()
    except pytest.skip.Exception as skip:
        verdict = _SKIPPED + str(skip).encode()
    except BaseException:
        verdict = _FAILED + traceback.format_exc().encode()
    finally:
        sys.stdout.flush()
        with os.fdopen(writer, "wb") as stream:
            stream.write(verdict)
        os._exit(0)


def unshare_network() -> None:
    """Put the calling thread into a new network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def run(*commands: str, stdin: str | None = None) -> str:
    """Run commands, each split as a shell would; what the last one printed."""
    output = ""
    for command in commands:
        result = subprocess.run(shlex.split(command), input=stdin, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}: {result.stderr}"
        output = result.stdout
    return output


def veth(name: str, *addresses: str, peer: str | None = None) -> None:
    """A pair of virtual Ethernet devices, both up; ``name`` gets the addresses, at once usable."""
    other = peer or f"{name}p"
    run(f"ip link add {name} type veth peer name {other}")
    run(f"ip link set {other} up", f"ip link set {name} up")
    for address in addresses:
        run(f"ip address add {address} dev {name}{' nodad' if ':' in address else ''}")

"""The only place that starts other programs.

No shell, no inherited standard input, no descriptors beyond the three, messages in English whatever the locale, and
always a bound on how long it may take: a program that hangs must not take the daemon with it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from connbal.errors import KernelError
from connbal.kernel.api import TransientError

#: Programs started so far in this process: what tests look at to prove that something needed none.
executions = 0

#: Where root's programs are on systems whose users have no ``sbin`` in their PATH.
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

#: Which package brings a program: (prefix of its name, Debian, OpenWrt).
_PACKAGES = (
    ("ip6tables-legacy", "iptables", "ip6tables-zz-legacy"),
    ("ip6tables", "iptables", "ip6tables-nft or ip6tables-zz-legacy"),
    ("iptables-legacy", "iptables", "iptables-zz-legacy"),
    ("iptables", "iptables", "iptables-nft or iptables-zz-legacy"),
    ("ipset", "ipset", "ipset"),
)


@dataclass(frozen=True)
class Result:
    """What a program left behind. Output that is no UTF-8 keeps its bytes as surrogates."""

    returncode: int
    stdout: str
    stderr: str


def find(program: str) -> str | None:
    """Full path of a program in PATH or in the usual ``sbin`` directories; None where there is none."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")


def missing(program: str) -> KernelError:
    """The error for a program that is not installed; it names the package to install."""
    name = os.path.basename(program)
    for prefix, debian, openwrt in _PACKAGES:
        if name.startswith(prefix):
            why = f"not installed: install package {debian} (Debian) or {openwrt} (OpenWrt)"
            return KernelError(name, None, why)
    return KernelError(name, None, "not installed")


def run(argv: Sequence[str], stdin: str | None = None, timeout: float = 30.0, *, check: bool = True) -> Result:
    """Run a program to its end.

    Parameters
    ----------
    argv: program and arguments; a program without a slash is looked up as :func:`find` does.
    stdin: what it reads; None: nothing (``/dev/null``).
    timeout: seconds after which it, and whatever it started, is killed.
    check: raise if it exits with anything but 0.

    Raises
    ------
    KernelError: it is not installed, cannot be started, or failed (see ``check``); ``command`` is its name.
    TransientError: it took longer than ``timeout``.
    """
    program = argv[0] if "/" in argv[0] else find(argv[0])
    if program is None:
        raise missing(argv[0])
    result = _execute([program, *argv[1:]], stdin, timeout)
    if check and result.returncode != 0:
        raise failure(argv, result)
    return result


def failure(argv: Sequence[str], result: Result) -> KernelError:
    """The error for a program that said no."""
    said = result.stderr.strip() or result.stdout.strip()
    ended = f"exit status {result.returncode}" if result.returncode >= 0 else f"killed by signal {-result.returncode}"
    return KernelError(_display(argv), None, said or ended)


def _execute(argv: Sequence[str], stdin: str | None, timeout: float) -> Result:
    global executions
    executions += 1
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=True,
            start_new_session=True,  # so that on a timeout its children can be killed with it
            env=_environment(),
            encoding="utf-8",
            errors="surrogateescape",
        )
    except FileNotFoundError:
        raise missing(argv[0]) from None
    except OSError as error:
        raise KernelError(_display(argv), None, f"cannot be started: {error.strerror}") from error
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            raise TransientError(_display(argv), None, f"no answer within {timeout:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return Result(process.returncode, stdout, stderr)


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "LANGUAGE"}
    environment["LC_ALL"] = "C"
    return environment


def _display(argv: Sequence[str]) -> str:
    return " ".join([os.path.basename(argv[0]), *argv[1:]])

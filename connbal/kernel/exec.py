"""The only place that starts other programs.

No shell, no inherited standard input, no descriptors beyond the three, messages in English whatever the locale, and
always a bound on how long it may take: a program that hangs must not take the daemon with it.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, AnyStr, NoReturn

from connbal.errors import KernelError
from connbal.frozen import dataclass
from connbal.kernel import descriptors, oom
from connbal.kernel.api import PASSING, T, TransientError, in_turn, passing

#: Programs started so far in this process: what tests look at to prove that something needed none.
executions = 0

#: Process ids of the programs started last. By them one's own changes are known in what the kernel announces.
own_pids: deque[int] = deque(maxlen=64)

#: Those that somebody waits for.
_running: set[subprocess.Popen[Any]] = set()
#: Set once nobody has time to wait any more.
_given_up = threading.Event()

#: Where root's programs are on systems whose users have no ``sbin`` in their PATH.
_SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

#: Signals that somebody else sends.
_KILLED = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM})

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
    if os.path.dirname(program):
        paths = [program]
    else:
        directories = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}".split(os.pathsep)
        paths = [os.path.join(directory, program) for directory in directories if directory]
    # As shutil.which does it, which brings three compressors.
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


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
    TransientError: it took longer than ``timeout``, was killed, or the machine was short of something, such as memory.
    """
    result = _execute(_command(argv), stdin, timeout)
    if check and result.returncode != 0:
        raise failure(argv, result)
    return result


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """As :func:`connbal.kernel.api.in_turn`, but side by side: most of the time a job waits for a program."""
    outcomes: list[Callable[[], T]] = list(jobs)

    def work(number: int) -> None:
        try:
            result = jobs[number]()
            outcomes[number] = lambda: result
        except BaseException as error:
            outcomes[number] = functools.partial(_raise, error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, len(jobs))]
    for thread in threads:
        thread.start()
    if jobs:
        work(0)
    for thread in threads:
        thread.join()
    return in_turn(outcomes)


def _raise(error: BaseException) -> NoReturn:
    raise error


def give_up() -> None:
    """For a process that has to end: kill the programs that are waited for, whichever thread does, and start no more.

    Those who wait for them are told what they are told when time runs out: TransientError.
    """
    _given_up.set()
    for process in tuple(_running):
        if process.returncode is None:  # not reaped yet, so the number is its own
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)


def failure(argv: Sequence[str], result: Result) -> KernelError:
    """The error for a program that said no: a TransientError where it was killed, or the machine short of something.

    Who kills a program (the kernel does, when memory is short) does not look at what it was given. One that crashes may
    do so because of that.
    """
    ended = f"exit status {result.returncode}" if result.returncode >= 0 else f"killed by signal {-result.returncode}"
    said = result.stderr.strip() or result.stdout.strip()
    transient = -result.returncode in _KILLED or passing(said)
    return (TransientError if transient else KernelError)(_display(argv), None, said or ended)


def spawn(argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a program and do not wait for it. It has a session of its own, ``/dev/null`` for its three streams, and the
    limit of open files that this process was given.

    Parameters
    ----------
    argv: program and arguments; a program without a slash is looked up as :func:`find` does.
    environment: all of its environment.

    Raises KernelError: it is not installed or cannot be started.
    """
    command = _command(argv)

    def popen() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            close_fds=True,
            start_new_session=True,
            env=dict(environment),
        )

    try:
        with descriptors.as_given():
            return _start(command, popen)
    except TransientError:
        if not descriptors.is_raised():
            raise
    # More are open than the limit was: then it is set a moment after the start.
    process = _start(command, popen)
    descriptors.give_back(process.pid)
    return process


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a program started here, with everything in its session, and reap it. Nothing if it was reaped before.

    Until it is reaped its number cannot be given to another process or session, so nobody else is hit. What does not
    end within a second hangs in the kernel: it ends later, and is reaped when another program is started.
    """
    if process.returncode is not None:
        return
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    killed: set[int] = set()
    for _ in range(16):  # again, for what was forked meanwhile
        found = set(_members(process.pid)) - killed
        if not found:
            break
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _members(session: int) -> Iterator[int]:
    """The processes of a session, in whatever groups they are: ``timeout`` and job control make their own."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if os.getsid(int(name)) == session:
                yield int(name)


def _execute(argv: Sequence[str], stdin: str | None, timeout: float) -> Result:
    process = _start(
        argv,
        lambda: subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=True,
            start_new_session=True,  # so that on a timeout its children can be killed with it
            env=_environment(),
            encoding="utf-8",
            errors="surrogateescape",
        ),
    )
    # Not ``with process``: that waits for its end without limit, and what hangs in the kernel cannot be killed.
    _running.add(process)
    try:
        if _given_up.is_set():
            raise subprocess.TimeoutExpired(argv, 0)
        stdout, stderr = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        raise TransientError(_display(argv), None, f"no answer within {timeout:g} s") from None
    finally:
        _running.discard(process)
        kill_group(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):  # what it has not read
                if stream is not None:
                    stream.close()
    return Result(process.returncode, stdout, stderr)


def _command(argv: Sequence[str]) -> list[str]:
    program = argv[0] if "/" in argv[0] else find(argv[0])
    if program is None:
        raise missing(argv[0])
    return [program, *argv[1:]]


def _start(argv: Sequence[str], popen: Callable[[], subprocess.Popen[AnyStr]]) -> subprocess.Popen[AnyStr]:
    global executions
    executions += 1
    try:
        with oom.unprotected():
            process = popen()
    except FileNotFoundError:
        raise missing(argv[0]) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in an argument
        why = error.strerror if isinstance(error, OSError) else str(error)
        kind = TransientError if isinstance(error, OSError) and error.errno in PASSING else KernelError
        raise kind(_display(argv), None, f"cannot be started: {why}") from error
    own_pids.append(process.pid)
    return process


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "LANGUAGE"}
    environment["LC_ALL"] = "C"
    return environment


def _display(argv: Sequence[str]) -> str:
    return " ".join([os.path.basename(argv[0]), *argv[1:]])

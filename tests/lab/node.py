"""One namespace of a lab: run programs in it, or enter it with the calling thread."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

NETNS_DIR = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The lab cannot do what was asked of it; the message says why."""


class CommandFailed(LabError):
    """A program in a namespace failed.

    Attributes: argv, returncode (None after a timeout), stdout, stderr.
    """

    def __init__(self, where: str, argv: Sequence[str], returncode: int | None, stdout: str, stderr: str) -> None:
        self.argv, self.returncode, self.stdout, self.stderr = list(argv), returncode, stdout, stderr
        how = "took too long" if returncode is None else f"exit {returncode}"
        super().__init__(f"{where}: {' '.join(argv)}: {how}\n{stderr.strip() or stdout.strip()}")


class Node:
    """A network namespace that the lab made. `name` is without the lab's prefix, `netns` with it."""

    def __init__(self, name: str, netns: str, env: Mapping[str, str] | None = None) -> None:
        self.name, self.netns = name, netns
        self.env = dict(env or {})
        self.children: list[subprocess.Popen[Any]] = []

    @property
    def path(self) -> str:
        """The namespace's file."""
        return str(NETNS_DIR / self.netns)

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Move the *calling thread* into the namespace for the length of the block.

        Sockets opened inside, netlink ones included, stay in the namespace afterwards; programs started
        inside run in it. Other threads are not moved, so a library that opens its sockets in a thread of
        its own opens them elsewhere. /proc/net and /sys follow the main thread and are not to be trusted
        inside the block; /proc/sys/net follows the calling thread.
        """
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.path)
            try:
                yield
            finally:
                if _LIBC.setns(back, _CLONE_NEWNET) != 0:
                    # Going on in the wrong namespace could harm it or the host: better no process at all.
                    os.abort()
        finally:
            os.close(back)

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start a program in the namespace, with the namespace's own /sys; `options` go to Popen.

        It is in a session of its own, dies with this process (if started from the main thread) and is
        ended by the lab's close. `env` is added to the environment.
        """
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            [*_die_with_parent(), "ip", "netns", "exec", self.netns, *argv],
            env={**os.environ, **self.env, **(env or {})},
            start_new_session=True,
            **options,
        )
        self.children = [child for child in self.children if child.poll() is None]
        self.children.append(process)
        return process

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end (at most `timeout` seconds) and return what it wrote.

        The end is that of its output: a daemon it leaves behind must not hold stdout or stderr.
        Raises CommandFailed when it takes too long, or, with `check`, exits with other than 0.
        """
        process = self.popen(
            argv,
            env=env,
            cwd=cwd,
            text=True,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            stdout, stderr = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            end_group(process)
            raise CommandFailed(self.name, argv, None, _text(late.stdout), _text(late.stderr)) from None
        if check and process.returncode:
            raise CommandFailed(self.name, argv, process.returncode, stdout, stderr)
        return subprocess.CompletedProcess(list(argv), process.returncode, stdout, stderr)

    def sh(self, script: str, **options: Any) -> str:
        """Run a shell script in the namespace and return its output; `options` as for `run`."""
        return self.run(["sh", "-ec", script], **options).stdout

    def ip(self, *lines: str, force: bool = False) -> None:
        """Run lines of `ip` commands in one process; with `force`, go on after a failing one.

        Raises CommandFailed with the line number that `ip` reports.
        """
        ip_batch(lines, self.netns, force)

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Write namespaced sysctls, `net/ipv4/ip_forward` style.

        One that the kernel lacks raises LabError, unless its name begins with "-".
        """
        outside = os.stat("/proc/thread-self/ns/net").st_ino
        with self.enter():
            if os.stat("/proc/thread-self/ns/net").st_ino == outside:
                raise LabError(f"{self.netns} is the namespace that this program runs in")
            for key, value in values.items():
                file = Path("/proc/sys", key.removeprefix("-"))
                try:
                    if file.exists() or not key.startswith("-"):
                        file.write_text(value)
                except OSError as error:
                    raise LabError(f"{self.name}: sysctl {key}={value}: {error}") from None

    def end_children(self) -> None:
        """End what was started by `popen` and still runs."""
        for child in self.children:
            end_group(child)
        self.children.clear()


def ip_batch(lines: Iterable[str], netns: str | None = None, force: bool = False) -> None:
    """Feed lines to one `ip -batch`, in a namespace or (only to make namespaces) outside."""
    argv = ["ip", *(["-n", netns] if netns else []), *(["-force"] if force else []), "-batch", "-"]
    text = "\n".join(lines) + "\n"
    done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode and not force:
        raise CommandFailed(netns or "host", argv, done.returncode, done.stdout, f"{done.stderr}--- input\n{text}")


def end_group(process: subprocess.Popen[Any]) -> None:
    """Kill a child and the session it leads, and reap it. Safe: unreaped, its pid cannot be anyone else's."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _setns(path: str) -> None:
    """Move the calling thread into the namespace at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
    finally:
        os.close(fd)


def _die_with_parent() -> list[str]:
    """A wrapper that sets the parent-death signal.

    The kernel sends it when the parent *thread* ends, so only the main thread may ask for it.
    """
    if threading.current_thread() is not threading.main_thread() or shutil.which("setpriv") is None:
        return []
    return ["setpriv", "--pdeathsig", "KILL", "--"]


def _text(data: str | bytes | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""

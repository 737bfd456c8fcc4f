"""Where faults are let in: programs started, netlink and ubus requests, state files written, one after the other.

What is wrapped are the real ones, at the lowest level there is, so that connbal's own handling of errors, time limits
and processes is what is tested. A :class:`Seam` counts the calls of its process, and lets one of them go wrong.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from connbal.kernel import exec as programs
from connbal.kernel import files, iptables_legacy, netlink, ubusd
from connbal.kernel.api import in_turn
from tests.fakes.ubusd import NOT_FOUND, TIMED_OUT, status

#: Seconds that a program of a fault hangs, and those it is given.
_HANGS, _GIVEN = 1000.0, 0.02
#: Seconds after which a program whose caller was killed goes on with its work.
LATE = 0.06
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_DUMP = 0x300

#: What may become of a call, by its kind. "after": it was done, but whoever asked does not learn of it.
MODES = {
    "look": ("fails", "unstartable", "signalled", "hangs", "killed"),
    "restore": ("fails", "nomem", "locked", "unstartable", "signalled", "signalled after", "hangs", "hangs after",
                "killed", "killed after", "late"),
    "build": ("fails", "nomem", "unstartable", "signalled", "hangs", "hangs after", "signalled after", "half fails",
              "half hangs", "half killed", "most fails", "killed", "killed after", "late"),
    "ask": ("nomem", "lost", "hangs", "killed"),
    "change": ("nomem", "perm", "lost", "lost after", "hangs", "hangs after", "killed", "killed after"),
    "file": ("full", "half killed", "killed", "killed after"),
    "connect": ("refused", "reset", "half", "hangs", "killed"),
    "bus": ("not found", "timed out", "reset", "half", "hangs", "killed"),
}  # fmt: skip
#: After these nothing of the process is left.
FATAL = ("killed", "killed after", "half killed", "late")

#: What programs say, as they are printed by the builds of Debian.
_SAID = {
    "fails": "{0}: line {1} failed.",
    "nomem": "{0}: line {1} failed: Memory allocation problem. Cannot allocate memory",
    "locked": "Another app is currently holding the xtables lock. Perhaps you want to use the -w option?",
}


class Seam:
    """``at``: the number of the call that goes wrong, from 0; -1: none. ``mode``: one of MODES for its kind."""

    def __init__(self, at: int = -1, mode: str = "", *, forever: bool = False, trace: Callable[[], Any] | None = None):
        self._at, self._mode, self._forever, self._trace = at, mode, forever, trace
        self.calls: list[tuple[str, str]] = []  #: kind and name
        self.traced: list[Any] = []  #: what ``trace`` found after each transaction
        self._execute, self._write, self._open = programs._execute, files.write, netlink.Channel._open
        self._get, self._bus = iptables_legacy.LegacyRules._get, ubusd._open
        self._inside = False
        self.met = False  #: a fault has reached connbal

    def again(self, at: int, mode: str) -> None:
        """Count anew."""
        self._at, self._mode, self.met = at, mode, False
        self.calls.clear()

    def install(self) -> None:
        """From now on all calls of this process come by here."""
        programs._execute = self._run
        programs.at_once = in_turn  # the same order each time
        files.write = self._wrote
        seam = self

        def opened(channel: netlink.Channel) -> Any:
            return _Wire(seam, seam._open(channel))

        netlink.Channel._open = opened  # type: ignore[method-assign]

        def got(rules: iptables_legacy.LegacyRules, family: Any, option: int, question: bytes) -> bytes:
            mode = seam.enter("ask", f"getsockopt {family.value} {option}")
            if mode == "killed":
                _die()
            if mode:
                seam.met = True
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return seam._get(rules, family, option, question)

        iptables_legacy.LegacyRules._get = got  # type: ignore[method-assign]
        ubusd._open = lambda: _Bus(seam, seam._bus())  # type: ignore[assignment, return-value]

    def enter(self, kind: str, name: str) -> str:
        """Count a call; returns what becomes of it, or nothing."""
        number = len(self.calls)
        self.calls.append((kind, name))
        hit = number == self._at or (self._forever and 0 <= self._at < number)
        return self._mode if hit and self._mode in MODES[kind] else ""

    # --- programs ---------------------------------------------------------------------------------------------------

    def _run(self, argv: Sequence[str], stdin: str | None, timeout: float) -> programs.Result:
        if self._inside:
            return self._execute(argv, stdin, timeout)
        name = os.path.basename(argv[0])
        kind = "build" if name == "ipset" and stdin is not None else "restore" if "-restore" in name else "look"
        mode = self.enter(kind, " ".join([name, *argv[1:]]))
        work = functools.partial(self._execute, argv, stdin, timeout)
        if not mode:
            result = work()
            if kind == "restore" and self._trace is not None:
                self._inside = True
                self.traced.append(self._trace())
                self._inside = False
            return result
        return self._spoilt(mode, work, argv, stdin)

    def _spoilt(
        self, mode: str, work: Callable[[], programs.Result], argv: Sequence[str], stdin: str | None
    ) -> programs.Result:
        name, lines = os.path.basename(argv[0]), (stdin or "").splitlines(keepends=True)
        done: programs.Result | None = None
        if mode.endswith(" after"):
            done = work()
        elif mode.startswith(("half", "most")):
            part = lines[: len(lines) - 1 if mode.startswith("most") else len(lines) // 2]
            self._execute(argv, "".join(part), 30.0)
        elif mode == "late":
            _later(argv, stdin)
        if mode.endswith(("killed", "killed after", "late")):
            _die()
        self.met = True
        if "hangs" in mode:
            return self._execute(["/bin/sleep", str(_HANGS)], None, _GIVEN)
        if mode == "unstartable":
            return programs._start(argv, _no_memory)  # type: ignore[return-value]  # it raises
        if "signalled" in mode:
            ended = self._execute(["/bin/sh", "-c", "kill -9 $$"], None, 30.0)
            return programs.Result(ended.returncode, done.stdout[: len(done.stdout) // 2] if done else "", "")
        said = _SAID["nomem" if mode.startswith(("half", "most")) else mode].format(name, len(lines))
        return programs.Result(4 if mode == "locked" else 1, "", said)

    # --- files ------------------------------------------------------------------------------------------------------

    def _wrote(self, path: str | os.PathLike[str], text: str, mode: int = 0o600) -> None:
        what = self.enter("file", f"write {Path(path).name}")
        if what == "killed":
            _die()
        replace = os.replace
        if what == "half killed":
            os.replace = lambda *_: _die()  # type: ignore[assignment]
        if what == "full":
            os.replace = self._full  # type: ignore[assignment]
        try:
            self._write(path, text, mode)
        finally:
            os.replace = replace
        if what == "killed after":
            _die()

    def _full(self, *_: object) -> None:
        self.met = True
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Wire:
    """A netlink socket: what is sent is a call."""

    def __init__(self, seam: Seam, real: socket.socket) -> None:
        self._seam, self._real = seam, real
        self._answer: bytes | Exception | None = None

    def fileno(self) -> int:
        return self._real.fileno()

    def send(self, data: bytes) -> int:
        _, number, flags, sequence, _ = _HEADER.unpack_from(data)
        asks = flags & _DUMP == _DUMP or number in (26, 1 << 8 | 1, 6 << 8 | 11) or number >> 8 == 10
        mode = self._seam.enter("ask" if asks else "change", f"netlink {number:#x}")
        _pending.pop(self._real.fileno(), None)
        if mode == "killed":
            _die()
        if mode in ("", "killed after", "hangs after", "lost after"):
            sent = self._real.send(data)
            if mode == "killed after":
                _die()
        else:
            sent = len(data)
        fault: bytes | Exception | None = None
        if "hangs" in mode:
            fault = TimeoutError("timed out")
        elif "lost" in mode:
            fault = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        elif mode:
            code = errno.EPERM if mode == "perm" else errno.ENOMEM
            body = _ERROR.pack(-code) + data[: _HEADER.size]
            fault = _HEADER.pack(_HEADER.size + len(body), 2, 0, sequence, 0) + body
        if fault is not None:
            _pending[self._real.fileno()] = fault
        return sent

    def recvmsg_into(self, buffers: list[memoryview]) -> Any:
        fault = _pending.pop(self._real.fileno(), None)
        if fault is None:
            return self._real.recvmsg_into(buffers)
        self._seam.met = True
        if isinstance(fault, Exception):
            raise fault
        buffers[0][: len(fault)] = fault
        return len(fault), [], 0, None


class _Bus:
    """A connection to ubusd: to make it is a call, and so is what is sent."""

    def __init__(self, seam: Seam, real: socket.socket) -> None:
        self._seam, self._real = seam, real
        self._fault: bytes | Exception | None = None  #: in place of what ubusd says; b"": the connection has ended

    def __enter__(self) -> _Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def settimeout(self, seconds: float) -> None:
        self._real.settimeout(seconds)

    def connect(self, where: str) -> None:
        mode = self._seam.enter("connect", "ubus")
        if mode == "refused":
            self._seam.met = True
            raise OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if mode != "killed":
            self._real.connect(where)
        self._spoil(mode, b"")

    def sendall(self, data: bytes) -> None:
        mode = self._seam.enter("bus", {4: "lookup", 5: "invoke"}[data[1]])
        if mode != "killed":
            self._real.sendall(data)
        said = {"not found": NOT_FOUND, "timed out": TIMED_OUT}.get(mode)
        self._spoil(mode, status(int.from_bytes(data[2:4], "big"), said) if said is not None else b"")

    def _spoil(self, mode: str, said: bytes) -> None:
        if mode == "killed":
            _die()
        elif mode == "hangs":
            self._fault = TimeoutError("timed out")
        elif mode == "reset":
            self._fault = OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        elif mode == "half":
            whole = self._real.recv(1 << 16)
            self._fault = whole[: len(whole) // 2]
        elif mode:
            self._fault = said

    def recv(self, size: int) -> bytes:
        if self._fault is None:
            return self._real.recv(size)
        if isinstance(self._fault, Exception):
            self._seam.met = True
            raise self._fault
        part, self._fault = self._fault[:size], self._fault[size:]
        self._seam.met = not self._fault
        return part


#: Answers that are still to come, by descriptor: a channel may ask for its socket anew each time.
_pending: dict[int, bytes | Exception] = {}


def _die() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def _no_memory() -> subprocess.Popen[bytes]:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def _later(argv: Sequence[str], stdin: str | None) -> None:
    """Have a program do its work when this process is gone."""
    code = "import subprocess, sys, time; time.sleep(float(sys.argv[1]));"
    code += "subprocess.run(sys.argv[2:-1], input=sys.argv[-1].encode(), capture_output=True)"
    subprocess.Popen([sys.executable, "-IS", "-c", code, str(LATE), *argv, stdin or ""],
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

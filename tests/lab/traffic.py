"""Traffic out of a node: batches of connections, a steady background, one long-lived stream."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab.agents.life import render_job
from tests.lab.node import LabError, Node, end_group
from tests.lab.results import Answers, answers

ROOT = Path(__file__).resolve().parents[2]
MAX_CONNECTIONS = 100_000
MAX_SECONDS = 600.0
Pair = tuple[str, str]

# Every UDP question of this process gets a source port of its own, until 50,000 have gone round.
_next_port = secrets.randbelow(50_000)


def start_agent(module: str, job: dict[str, Any], node: Node | None, keep: bool = False) -> subprocess.Popen[bytes]:
    """Start `tests.lab.agents.MODULE`, in the namespace of `node` if given, and hand it its job.

    -S and -E: without site packages it starts in half the time, and nothing of the caller's leaks in.
    """
    argv = [sys.executable, "-S", "-E", "-m", f"tests.lab.agents.{module}"]
    # The parent-death signal follows the starting thread: elsewhere the closing pipe alone must do.
    main = threading.current_thread() is threading.main_thread()
    with node.enter() if node else contextlib.nullcontext():
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if keep else None,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write(render_job({**job, "parent": 0 if keep else os.getpid(), "signal": main}))
    process.stdin.flush()
    return process


def client_job(
    proto: str,
    port: int,
    pairs: Sequence[Pair],
    *,
    parallel: int = 64,
    timeout: float = 3.0,
    peer: bool = False,
    device: str = "",
    mark: int = 0,
    rate: float = 0.0,
    count: int = 0,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """A job for the client agent, with its bounds. Raises LabError beyond them."""
    if not pairs or max(len(pairs), count) > MAX_CONNECTIONS:
        raise LabError(f"1 to {MAX_CONNECTIONS} connections at a time, not {max(len(pairs), count)}")
    global _next_port
    first_port, _next_port = _next_port, (_next_port + max(len(pairs), count)) % 50_000
    worst = len(pairs) / max(1, parallel) * timeout + timeout + 5
    return {
        "proto": proto,
        "port": port,
        "pairs": list(pairs),
        "parallel": parallel,
        "timeout": timeout,
        "peer": peer,
        "device": device,
        "mark": mark,
        "rate": rate,
        "first_port": first_port,
        "count": count,
        "seconds": min(MAX_SECONDS, seconds or worst),
    }


def run_batch(node: Node, job: dict[str, Any]) -> Answers:
    """Do a job to its end. Raises LabError when the client did not report every connection."""
    begin = time.monotonic()
    process = start_agent("client", job, node)
    try:
        assert process.stdout is not None
        text = process.stdout.read()  # bounded: the agent's alarm ends it
        process.wait()
    finally:
        end_group(process)
    found = answers((json.loads(line) for line in text.splitlines()), time.monotonic() - begin)
    if len(found) != len(job["pairs"]):
        raise LabError(f"{node.name}: the client reported {len(found)} of {len(job['pairs'])} connections")
    return found


class ConstantTraffic:
    """New connections at a steady rate in the background, until `stop`, `count` or `seconds`.

    As a context manager it stops at the end of the block. Results are there while it runs.
    """

    def __init__(self, node: Node, job: dict[str, Any]) -> None:
        self._begin = time.monotonic()
        self._rows: list[list[object]] = []
        self._process = start_agent("client", job, node)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            for line in self._process.stdout:
                self._rows.append(json.loads(line))

    @property
    def running(self) -> bool:
        """True while connections are opened or awaited."""
        return self._process.poll() is None

    @property
    def so_far(self) -> Answers:
        """What has been answered or given up until now."""
        return answers(self._rows[:], time.monotonic() - self._begin)

    def wait_for(self, count: int, timeout: float = 10.0) -> Answers:
        """Wait until `count` connections have ended. Raises LabError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while len(self._rows) < count:
            if time.monotonic() > deadline:
                raise LabError(f"only {len(self._rows)} of {count} connections ended within {timeout} s")
            time.sleep(0.005)
        return self.so_far

    def stop(self, timeout: float = 10.0) -> Answers:
        """Open no more, await those under way (at most `timeout` seconds), and return all results."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(b"stop\n")
            self._process.stdin.flush()
        self._reader.join(timeout)
        elapsed = time.monotonic() - self._begin
        end_group(self._process)
        return answers(self._rows[:], elapsed)

    def __enter__(self) -> ConstantTraffic:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


class Stream:
    """One TCP connection that stays open, to see what becomes of it. Lives in this process, no child needed."""

    def __init__(self, node: Node, dst: str, port: int, src: str = "", timeout: float = 3.0) -> None:
        """Connect. Raises OSError when that fails or takes longer than `timeout` seconds."""
        with node.enter():
            self._sock = socket.socket(socket.AF_INET6 if ":" in dst else socket.AF_INET, socket.SOCK_STREAM)
        self._buffer = b""
        self._asked = 0
        self.error: str | None = None
        try:
            self._sock.settimeout(timeout)
            if src:
                self._sock.bind((src, 0))
            self._sock.connect((dst, port))
        except OSError:
            self._sock.close()
            raise
        local = self._sock.getsockname()
        self.local: tuple[str, int] = (local[0], local[1])

    def ask(self, timeout: float = 1.0) -> str | None:
        """Which source answers on this connection now; None if nothing does within `timeout` seconds.

        After a cut TCP waits ever longer before it tries again: an answer may come late though the way
        is open. A connection that was reset stays None, and `error` says why.
        """
        self._asked += 1
        deadline = time.monotonic() + timeout
        try:
            self._sock.settimeout(timeout)
            self._sock.sendall(f"? {self._asked}\n".encode())
            while (left := deadline - time.monotonic()) > 0:
                name, _, number = self._line(left).partition(" ")
                if number == str(self._asked):  # not the greeting, nor a late answer to an earlier question
                    return name
        except TimeoutError:
            return None
        except OSError as error:
            self.error = str(error)
        return None

    def _line(self, timeout: float) -> str:
        while b"\n" not in self._buffer:
            self._sock.settimeout(timeout)
            data = self._sock.recv(4096)
            if not data:
                raise ConnectionResetError("closed by the other end")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    @property
    def alive(self) -> bool:
        """True if it answers within a second."""
        return self.ask() is not None

    def close(self) -> None:
        """Close it."""
        self._sock.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def numbered(count: int, family: int) -> Iterable[str]:
    """`count` different destinations that every Internet answers; at most 65,000 per family."""
    if not 0 <= count <= 65_000:
        raise LabError(f"0 to 65000 destinations, not {count}")
    for number in range(1, count + 1):
        yield f"100.64.{number >> 8}.{number & 255}" if family == 4 else f"2001:db8:ffff::{number:x}"

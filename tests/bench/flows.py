"""New connections all the time: UDP and TCP, IPv4 and IPv6, and what became of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from tests.bench.results import Figure
from tests.lab import Answer, Answers, ConstantTraffic, Lab

#: Protocol and version of IP.
Kind = tuple[str, int]
KINDS: tuple[Kind, ...] = (("udp", 4), ("udp", 6), ("tcp", 4), ("tcp", 6))
#: Seconds for an answer. Less than the second after which TCP asks again, or a packet that was lost would not show.
TIMEOUT = 0.9
#: Seconds that a client may run, and anything may take on a slow and busy machine.
_LIFE, _PATIENCE = 180.0, 30.0
#: Lost connections that are told one by one.
_SHOWN = 20
#: What the router remembers of a connection must not decide about a later one: each client has sites of its own, which
#: nobody probes. With several there are ports enough.
_SITES = 4
_sites = itertools.count(16)


class Flows:
    """Clients on ``pc`` for a ``with`` block, each with ``rate`` new connections a second; they run when it begins.

    ``patient``: the block ends when the last connection has been answered or given up.
    """

    def __init__(self, lab: Lab, rate: float, kinds: Sequence[Kind] = KINDS, *, patient: bool = True) -> None:
        self._lab, self._rate, self._kinds, self._patient = lab, rate, kinds, patient
        self._running: dict[Kind, ConstantTraffic] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Flows:
        with ExitStack() as stack:
            for proto, family in self._kinds:
                traffic = self._lab.constant(
                    "pc", port=5000, proto=proto, pairs=[("", _site(family)) for _ in range(_SITES)], rate=self._rate,
                    count=int(self._rate * _LIFE), seconds=_LIFE, timeout=TIMEOUT,
                )  # fmt: skip
                self._running[proto, family] = stack.enter_context(traffic)
            for traffic in self._running.values():
                traffic.wait_for(5, _PATIENCE)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for traffic in () if self._patient else self._running.values():
            traffic.stop(0.0)
        self._stack.close()

    def await_source(self, name: str, since: float) -> dict[Kind, float]:
        """Wait until each kind has had an answer by a source; when that was.

        Only connections that began at ``since`` (monotonic clock) or later count.
        """
        end = time.monotonic() + _PATIENCE
        while True:
            found = {kind: first_by(name, traffic.so_far, since) for kind, traffic in self._running.items()}
            answered = {kind: at for kind, at in found.items() if at is not None}
            if len(answered) == len(found):
                return answered
            if time.monotonic() > end:
                missing = ", ".join(f"{proto} over IPv{family}" for proto, family in found.keys() - answered.keys())
                raise AssertionError(f"waited {_PATIENCE:g} s for new connections by {name}: none of {missing}")
            time.sleep(0.1)

    def stop(self) -> dict[Kind, Answers]:
        """Everything, when the last has been answered or given up."""
        return {kind: traffic.stop() for kind, traffic in self._running.items()}


def _site(family: int) -> str:
    number = next(_sites)
    return f"100.64.{number >> 8}.{number & 255}" if family == 4 else f"2001:db8:ffff::{number:x}"


def first_by(name: str, answers: Iterable[Answer], since: float) -> float | None:
    """When the first connection that began at ``since`` or later was answered by a source."""
    return min((row.at + row.took for row in answers if row.source == name and row.at >= since), default=None)


def failures(found: Mapping[Kind, Answers], begun: Sequence[float]) -> Iterator[str]:
    """Which connections were not answered and when, by seconds since the last of some moments; a line for each kind."""
    for (proto, family), answers in found.items():
        parts = [f"{row.error} at {row.at - max((at for at in begun if at <= row.at), default=row.at):.3f} s"
                 for row in answers.failures]  # fmt: skip
        if parts:
            yield f"{proto.upper()} over IPv{family}: {', '.join(parts[:_SHOWN])}{' ...' if parts[_SHOWN:] else ''}"


def figures(what: str, begun: Sequence[float], answered: Sequence[Mapping[Kind, float]], limit: float) -> list[Figure]:
    """For each kind the seconds from each beginning until its answer."""
    return [
        Figure(
            f"{what}: {proto.upper()} over IPv{family}",
            tuple(one[proto, family] - begin for begin, one in zip(begun, answered, strict=True)),
            limit,
        )
        for proto, family in (answered[0] if answered else ())
    ]

"""What is known of one probed host: whether it answers, and over a sliding window how well. Pure.

Loss and latency are worked out when they are asked for, over what the last ``quality_window`` seconds brought
(as dpinger does). mwan3 2.12.2 judges each round by itself, where one probe per host knows only 0 % and 100 %; and
it counts a host between the failure and the recovery limits as not answering, so that a source which is steadily in
between goes offline. Here the limits are what their names say: a host that is well stays so until it reaches a
failure limit, one that is not becomes so when it meets both recovery limits.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace

from connbal.frozen import dataclass
from connbal.model.config import Interface
from connbal.track.api import HostResult, Miss

#: Fewer probes say nothing of loss: a single lost one would look like 20 % and more. A window reaches back further
#: than its seconds where it would hold less.
MIN_PROBES = 5
#: Rounds that a window holds at most, whatever its seconds.
MAX_SAMPLES = 600


class HostState(enum.Enum):
    """What the last round said of a host, in the words of mwan3's ``TRACK_`` files."""

    UP = "up"
    DOWN = "down"
    SKIPPED = "skipped"  #: not waited for, because enough others had answered; or not asked, or left out
    UNKNOWN = "unknown"  #: never asked yet


@dataclass(frozen=True)
class Sample:
    """What one round said of one host."""

    at: float  #: seconds of the monotonic clock, at the end of the round
    loss: float  #: per cent, 0..100
    latency: float | None  #: ms, mean over the answers; None: no answer, or a method that has none


@dataclass(frozen=True)
class Host:
    """A probed host."""

    name: str  #: as ``track_ip`` has it
    state: HostState = HostState.UNKNOWN
    fault: str = ""  #: in words, why it is not up
    well: bool = True  #: within the quality limits, with hysteresis; only ``check_quality`` changes it
    window: tuple[Sample, ...] = ()  #: oldest first
    last: HostState = HostState.UNKNOWN  #: what the last round said that has heard of it

    @property
    def left_out(self) -> bool:
        """Neither its answers nor their absence say anything: ``fault`` says why."""
        return self.last is HostState.SKIPPED

    @property
    def known(self) -> HostState:
        """Its state for others: that of a round before, while this one has not waited for it."""
        return self.state if self.last is HostState.UNKNOWN else self.last

    @property
    def loss(self) -> float | None:
        """Per cent over the window; None: never asked."""
        if not self.window:
            return None
        return sum(sample.loss for sample in self.window) / len(self.window)

    @property
    def latency(self) -> float | None:
        """Mean of the answers in the window, in ms; None: there is none."""
        total = weights = 0.0
        for sample in self.window:
            if sample.latency is not None:
                weight = 100.0 - sample.loss
                total += sample.latency * weight
                weights += weight
        return total / weights if weights else None


def heard(settings: Interface, host: Host, result: HostResult, at: float) -> Host:
    """The host after a round that ended at ``at``."""
    if not _says_something(result):
        host = replace(host, state=HostState.SKIPPED)
        is_out = not result.skipped and result.miss is Miss.LEFT_OUT
        return replace(host, fault=result.reason, last=HostState.SKIPPED) if is_out else host
    host = remembered(settings, host, result, at)
    well, fault = _judged(settings, host) if settings.check_quality else (True, "")
    if not result.answered:
        fault = result.reason or "no answer"
    state = HostState.DOWN if fault else HostState.UP
    return replace(host, state=state, fault=fault, well=well, last=state)


def _says_something(result: HostResult) -> bool:
    return not result.skipped and (result.answered or result.miss is Miss.LOST)


def remembered(settings: Interface, host: Host, result: HostResult, at: float) -> Host:
    """The host with the result in its window, its state as it was.

    An outage that was long enough to be judged as one, ``down`` rounds without any answer, is forgotten when the host
    answers again: it has been paid for, and says nothing about the quality after it.
    """
    if not _says_something(result):
        return host
    loss, latency = (result.loss, result.latency) if result.answered else (100.0, None)
    sample = Sample(at, min(max(loss, 0.0), 100.0), latency)
    if not settings.quality_window:
        return replace(host, window=(sample,))
    window = host.window
    if result.answered:
        end = len(window)
        while end and window[end - 1].loss >= 100.0:
            end -= 1
        if len(window) - end >= settings.down:
            window = window[:end]
    window = (*window, sample)
    least = -(-MIN_PROBES // settings.count)
    first = max(len(window) - MAX_SAMPLES, 0)
    while len(window) - first > least and window[first].at < at - settings.quality_window:
        first += 1
    return replace(host, window=window[first:])


def _judged(settings: Interface, host: Host) -> tuple[bool, str]:
    """Whether the host is well, and if not, why."""
    loss, latency = host.loss or 0.0, host.latency or 0.0
    enough = not settings.quality_window or len(host.window) * settings.count >= MIN_PROBES
    faults = []
    if enough and loss >= settings.failure_loss:
        faults.append(f"loss {loss:.0f} %, limit {settings.failure_loss:g} %")
    if latency >= settings.failure_latency:
        faults.append(f"latency {latency:.0f} ms, limit {settings.failure_latency:g} ms")
    if not faults and not host.well:
        if loss > settings.recovery_loss:
            faults.append(f"loss {loss:.0f} %, back at {settings.recovery_loss:g} %")
        if latency > settings.recovery_latency:
            faults.append(f"latency {latency:.0f} ms, back at {settings.recovery_latency:g} ms")
    return not faults, " and ".join(faults)


def needed(reliability: int, hosts: int, left_out: int) -> int:
    """How many of ``hosts`` must answer, where so many of them are left out: no more than there are others.

    Where the configuration asks for more hosts than it names, no round is ever good.
    """
    return reliability if reliability > hosts else min(reliability, hosts - left_out)


def verdict(
    reliability: int, hosts: int, answered: int, *, left_out: int = 0, unasked: int = 0, pending: int = 0
) -> bool | None:
    """Whether a round is good, whatever the ``unasked`` hosts would have said and the ``pending`` ones will say.

    None: it says nothing. So it is where no host was asked, or those that were not could have turned it.
    """
    if hosts and hosts == left_out + unasked + pending:
        return None
    need = needed(reliability, hosts, left_out)
    if answered >= need:
        return True
    return False if answered + unasked + pending < need else None


def summary(settings: Interface, hosts: Sequence[Host]) -> str:
    """What a round said of all hosts: ``2 of 4 hosts answered, 3 needed: 1.1.1.1 timeout, 9.9.9.9 timeout``."""
    answered = sum(host.state is HostState.UP for host in hosts)
    out = [host for host in hosts if host.state is HostState.SKIPPED and host.left_out]
    asked = len(hosts) - len(out)
    faults = [f"{host.name} {host.fault}" for host in hosts if host.state is HostState.DOWN]
    faults += [f"{host.name} left out, {host.fault}" for host in out]
    if out and not asked:
        return f"no host can be asked, so its state stays as it is: {', '.join(faults)}"
    how = "answered well enough" if settings.check_quality else "answered"
    need = needed(settings.reliability, len(hosts), len(out))
    words = f"{answered} of {asked} host{'' if asked == 1 else 's'} {how}, {need} needed"
    if settings.reliability > len(hosts):
        words += " (option reliability asks for more hosts than are probed)"
    skipped = sum(host.state is HostState.SKIPPED for host in hosts) - len(out)
    faults += [f"{skipped} not waited for"] if skipped else []
    return f"{words}: {', '.join(faults)}" if faults else words

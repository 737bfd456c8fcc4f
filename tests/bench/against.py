"""connbal and another program that does its work, side by side: two routers alike, taking turns.

``./bench --against DIR`` measures it; README.md here says what DIR has in it.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.flows import TIMEOUT, Flows, Kind
from tests.bench.meter import Meter, Spent
from tests.bench.results import Figure, Floor
from tests.demo.config import section
from tests.lab import Lab
from tests.router.router import Router, stage

GROUP = "against"
CONNBAL = "connbal"
#: Answered by every Internet of a lab.
_HOST = "203.0.113.7"
#: IPv4 alone, as the programs are compared by what all of them do.
_KINDS: tuple[Kind, ...] = (("udp", 4), ("tcp", 4))
_RATE, _LATER = 100.0, 1.5
_PATIENCE = 120.0
#: What of connbal must not be in a router that another program runs in.
_CONNBALS = ("etc/init.d", "etc/hotplug.d", "etc/uci-defaults", "usr/sbin", "usr/libexec")
#: How each verb is done where the adapter does not say otherwise: mwan3's own commands.
_COMMANDS = {
    "start": ("/etc/init.d/mwan3", "start"),
    "reload": ("/etc/init.d/mwan3", "reload"),
    "restart": ("/etc/init.d/mwan3", "restart"),
    "status": ("/usr/sbin/mwan3", "status"),
}
#: What is told of each kind of work, and of which the return of the command says nothing.
_SPENT = (
    ("until it returns", "s", "returned"),
    ("until all is quiet", "s", "settled"),
    ("processor", "s", "cpu"),
    ("programs started", "", "started"),
)
_TOLD = ("ifdown", "ifup")


@dataclass(frozen=True)
class Effort:
    """How much is measured. ``idle``: seconds."""

    interfaces: tuple[int, ...] = (2, 5, 20)
    turns: int = 3
    cuts: int = 3
    idle: float = 30.0


FULL, SHORT = Effort(), Effort((2,), 1, 0, 1.0)


@dataclass
class Subject:
    """One of the two programs, in a router of its own."""

    name: str
    router: Router
    meter: Meter

    def do(self, verb: str) -> None:
        """Raises CommandFailed, but not where the other refuses a status: mwan3 does at times, just after a start."""
        adapter = "/lib/router/adapter"
        own = self.router.path(adapter).exists()
        check = verb != "status" or self.name == CONNBAL
        self.router.run([adapter, verb] if own else _COMMANDS[verb], timeout=_PATIENCE, check=check)

    def interface(self, name: str, up: bool) -> None:
        """Tell netifd to bring an interface up or down; hotplug scripts run after it has returned."""
        self.router.ubus(f"network.interface.{name}", "up" if up else "down")


def figures(directory: Path, effort: Effort = FULL) -> Iterator[Figure]:
    """connbal's figures, with the other's as their floors. Raises LabError."""
    for count in effort.interfaces:
        with pair_of(directory, count, configuration(count, "60")) as pair:
            yield from _work(pair, count, effort)
    if effort.cuts:
        with pair_of(directory, 2, configuration(2, "1", failover=True)) as pair:
            yield from _losses(pair, effort.cuts)
    for count in effort.interfaces[:: max(len(effort.interfaces) - 1, 1)]:
        with pair_of(directory, count, configuration(count, "1")) as pair:
            yield from _idle(pair, count, effort.idle)


def configuration(count: int, interval: str, failover: bool = False) -> str:
    """Sources ``s1`` to ``sN``; ten rules for ports, and one for all. All that mwan3 understands."""
    probing = [(name, interval) for name in ("interval", "failure_interval", "recovery_interval")]
    parts = [section("globals", "globals", ("mmx_mask", "0x3F00"))]
    for number in range(1, count + 1):
        name = f"s{number}"
        parts.append(section("interface", name, ("enabled", "1"), ("family", "ipv4"), ("track_ip", _HOST),
                             ("timeout", "1"), ("down", "3"), ("up", "3"), *probing))  # fmt: skip
        metric = str(number if failover else 1)
        parts.append(section("member", f"{name}_m", ("interface", name), ("metric", metric), ("weight", str(number))))
    members = [("use_member", f"s{number}_m") for number in range(1, count + 1)]
    parts.append(section("policy", "all", *members, ("last_resort", "unreachable")))
    for number in range(1, 11):
        parts.append(section("rule", f"r{number}", ("proto", "tcp"), ("dest_port", str(2000 + number)),
                             ("family", "ipv4"), ("use_policy", "all")))  # fmt: skip
    parts.append(section("rule", "rest", ("dest_ip", "0.0.0.0/0"), ("family", "ipv4"), ("use_policy", "all")))
    return re.sub(r"option (track_ip|use_member) ", r"list \1 ", "\n".join(parts))  # mwan3 takes lists alone


@contextmanager
def pair_of(directory: Path, count: int, config: str) -> Iterator[tuple[Subject, Subject]]:
    """connbal and the other, neither of them started."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="connbal-against-")))
        staged, bare = scratch / "staged", scratch / "bare"
        stage(staged)
        shutil.copytree(staged, bare, symlinks=True)
        for name in _CONNBALS:
            shutil.rmtree(bare / name, ignore_errors=True)
        last = scratch / "last"
        shutil.copytree(directory / "files", last, symlinks=True)
        if (directory / "adapter").exists():
            (last / "lib/router").mkdir(parents=True, exist_ok=True)
            shutil.copy(directory / "adapter", last / "lib/router/adapter")
        names = [f"s{number}" for number in range(1, count + 1)]
        subjects = []
        for name, root, over in ((CONNBAL, staged, None), (directory.name, bare, last)):
            router = stack.enter_context(Router(stack.enter_context(Lab(names)), root, None, over))
            router.configure(config)
            subjects.append(Subject(name, router, stack.enter_context(Meter(router))))
        yield subjects[0], subjects[1]


def _work(pair: tuple[Subject, Subject], count: int, effort: Effort) -> Iterator[Figure]:
    """Each kind of work, in turns."""
    text = pair[0].router.path("/etc/config/mwan3").read_text()
    steps: dict[str, list[list[Spent]]] = {}
    lost: dict[str, list[list[float]]] = {}

    def step(what: str, work: Callable[[Subject], object], traffic: bool = False) -> None:
        for place, subject in enumerate(pair):
            if not traffic:
                spent = subject.meter.measure(partial(work, subject))
            else:
                with Flows(subject.router.lab, _RATE, _KINDS) as running:
                    spent = subject.meter.measure(partial(work, subject))
                    time.sleep(TIMEOUT)
                    found = running.stop()
                lost.setdefault(what, [[], []])[place].append(
                    sum(len(list(answers.failures)) for answers in found.values()) / (_RATE * len(_KINDS))
                )
            steps.setdefault(what, [[], []])[place].append(spent)

    def edit(turn: int) -> Callable[[Subject], None]:
        def work(subject: Subject) -> None:
            subject.router.configure(text.replace("'2001'", f"'{3000 + turn}'"))
            subject.do("reload")

        return work

    step("start", lambda one: one.do("start"))
    for turn in range(effort.turns):
        step("ifdown", lambda one: one.interface("s1", False))
        step("ifup", lambda one: one.interface("s1", True))
        step("rule edited and reloaded", edit(turn), traffic=True)
        step("restart", lambda one: one.do("restart"), traffic=True)
        step("status", lambda one: one.do("status"))
    scale = {"interfaces": count}
    for what, (ours, theirs) in steps.items():
        for label, unit, field in _SPENT:
            if field == "returned" and what in _TOLD:
                continue
            yield _figure(f"{what}: {label}", pair, [[getattr(one, field) for one in side] for side in (ours, theirs)],
                          unit, scale)  # fmt: skip
        if what in lost:
            yield _figure(f"{what}: new connections lost, as seconds of them", pair, lost[what], "s", scale)


def _figure(
    what: str, pair: tuple[Subject, Subject], samples: Sequence[Sequence[float]], unit: str, scale: dict[str, int]
) -> Figure:
    ours, theirs = samples
    return Figure(what, tuple(ours), unit=unit, group=GROUP, scale=dict(scale),
                  floor=Floor(pair[1].name, tuple(theirs)))  # fmt: skip


def _losses(pair: tuple[Subject, Subject], cuts: int) -> Iterator[Figure]:
    """From the moment that the first source goes silent until new connections leave by the second; a probe a second."""
    found: list[list[float]] = [[], []]
    for subject in pair:
        subject.do("start")
    for _ in range(cuts):
        for place, subject in enumerate(pair):
            lab = subject.router.lab
            _await(subject, "s1", "online")
            time.sleep(_LATER)
            with Flows(lab, _RATE, _KINDS) as running:
                running.await_source("s1", time.monotonic())
                began = time.monotonic()
                lab.cut("s1")
                answered = running.await_source("s2", began)
                found[place].append(max(answered.values()) - began)
            lab.restore("s1")
    yield _figure("silent loss until new connections work", pair, found, "s", {"interfaces": 2})


def _await(subject: Subject, name: str, status: str) -> None:
    subject.router.wait(
        lambda: subject.router.read(f"/var/run/mwan3track/{name}/STATUS") == status, f"{name} {status}", _PATIENCE
    )


def _idle(pair: tuple[Subject, Subject], count: int, seconds: float) -> Iterator[Figure]:
    """Both at once, with a probe of each source every second."""
    for subject in pair:
        subject.do("start")
        _await(subject, f"s{count}", "online")
    time.sleep(5)
    began = [(one.meter.cpu(), one.meter.started()) for one in pair]
    time.sleep(seconds)
    spent = [
        (one.meter.cpu() - cpu, one.meter.started() - started) for one, (cpu, started) in zip(pair, began, strict=True)
    ]
    scale = {"interfaces": count}
    per = 60 / seconds
    yield _figure("idle: processor a minute", pair, [[cpu * per] for cpu, _ in spent], "s", scale)
    yield _figure("idle: programs started a minute", pair, [[started * per] for _, started in spent], "", scale)
    yield _figure("idle: processes", pair, [[float(len(one.meter.others()))] for one in pair], "", scale)
    yield _figure("idle: memory (PSS)", pair, [[one.meter.memory()] for one in pair], "MB", scale)

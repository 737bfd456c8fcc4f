"""The walk: each transition again and again, each time with another fault at another call."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.ubusd import Bus
from tests.lab import Lab, snapshot
from tests.netns.faults.scenes import Scene, Transition, others_settle
from tests.netns.faults.seam import FATAL, LATE, MODES
from tests.netns.faults.witness import KINDS, Verdict, Witness
from tests.netns.main_job.bench import ROOT, ordered

#: Everything that was in a router's tables before is not connbal's.
_OURS = re.compile(r"mwan3_|proto 131")
_OWN_LINE = re.compile(r":mwan3_|-A mwan3_|-A (PREROUTING|OUTPUT) -j mwan3_")
_STICKY = re.compile(r"^add mwan3_sticky_.*\n", re.MULTILINE)
_MARKS = re.compile(r"--set-xmark (0x[0-9a-f]+)/(0x[0-9a-f]+)")
_RESET = "for one in $(ipset list -n | grep ^mwan3_); do ipset destroy $one; done"
_FORGET = "conntrack -F 2>/dev/null; for one in $(ipset list -n | grep sticky); do ipset flush $one; done"


class Worker:
    """connbal in a router: see :mod:`tests.netns.faults.worker`."""

    def __init__(self, lab: Lab) -> None:
        argv = [sys.executable, "-m", "tests.netns.faults.worker", str(lab.tmp / "ubus.sock")]
        self._process = lab.router.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._where = ["--config-dir", str(lab.config_dir), "--run-dir", str(lab.run_dir)]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)

    def connbal(self, *arguments: str, **fault: Any) -> dict[str, Any]:
        return self._job({"argv": [*self._where, *arguments], **fault})

    def run(self, argv: Sequence[str], check: bool = False) -> subprocess.CompletedProcess[str]:
        """As a Node of the lab does, but by the process that is there already."""
        done = self._job({"script": argv[-1]})
        return subprocess.CompletedProcess(list(argv), done["code"], done["stdout"], done["stderr"])

    def _job(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the worker died"
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Look:
    """What the router holds, taken apart."""

    text: str  #: all of it, but what traffic puts into sets
    chains: tuple[str, str]  #: connbal's, by family
    sets: dict[str, frozenset[str]]  #: connbal's
    others: str  #: everything else


@dataclass
class Course:
    """How a transition goes where nothing goes wrong."""

    calls: list[tuple[str, str]]  #: kind and name
    chains: tuple[set[str], set[str]]  #: what the chains of a family are on the way
    before: Look
    after: Look
    ledger: str
    new: list[frozenset[Verdict]]  #: what may become of each kind of packet on the way
    open: list[frozenset[Verdict]]
    new_after: list[frozenset[Verdict]]
    open_after: list[frozenset[Verdict]]


@dataclass(frozen=True)
class Point:
    """A fault at a call."""

    at: int
    kind: str
    call: str
    mode: str

    def __str__(self) -> str:
        return f"call {self.at} ({self.call}) {self.mode}"


@dataclass
class Walk:
    """A router, and what has been found in it."""

    lab: Lab
    #: One process applies everything, faults and all, as the daemon does. Else each command has its own.
    kept: bool = False
    #: How netifd answers: "bus": over ubusd's socket; "program": over ``ubus`` alone, as the socket refuses; else not.
    netifd: str = ""
    points: int = 0
    most_files: int = 0  #: that the process had open
    failures: list[str] = field(default_factory=list)

    def __enter__(self) -> Walk:
        self._closing = contextlib.ExitStack()
        if self.netifd:
            self.lab.ubus_stub()
            bus = Bus(self.lab.tmp / "ubus.sock", self.lab.tmp / "ubus" / "dump.json")
            if self.netifd == "program":
                bus.close()
            else:
                self._closing.callback(bus.close)
        others_settle(self.lab)
        # Packets made by hand have no checksums, and shall be connections all the same.
        self.lab.router.sysctl({"-net/netfilter/nf_conntrack_checksum": "0"})
        self.worker = Worker(self.lab)
        self._closing.callback(self.worker.close)
        self.witness = Witness(self.lab)
        self._closing.callback(self.witness.close)
        self._routes: tuple[str, ...] = ()
        self.files = {path.name: path.read_bytes() for path in self.lab.config_dir.iterdir()}
        self.untouched = self.look()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    # --- scenes -----------------------------------------------------------------------------------------------------

    def enter(self, scene: Scene) -> None:
        """Bring machine and configuration into a scene; connbal has not been told yet."""
        for name in set(scene.down) ^ self.witness.down:
            self.lab.carrier(name, name not in scene.down)
            self.lab.netifd_says(name, name not in scene.down)
        self.witness.down = frozenset(scene.down)
        if scene.routes != self._routes:
            self.lab.router.ip(*(f"route del {one} dev br-lan" for one in self._routes),
                               *(f"route add {one} dev br-lan" for one in scene.routes))  # fmt: skip
            self._routes = scene.routes
        if scene.text is not None:
            self.files["mwan3"] = scene.text.encode()
            (self.lab.config_dir / "mwan3").write_text(scene.text)

    def arrive(self, scene: Scene) -> None:
        """Enter a scene, and have connbal follow without any fault."""
        self.enter(scene)
        self.undisturbed("apply" if scene.text is not None else "stop")

    def command(self, command: str, **fault: Any) -> dict[str, Any]:
        done = self.worker.connbal(command, **fault, **({"kept": True} if self.kept and command == "apply" else {}))
        if "files" in done:
            self.most_files = max(self.most_files or done["files"], done["files"])
        return done

    def undisturbed(self, command: str) -> None:
        done = self.command(command)
        assert done["code"] == 0, (command, done["stderr"])
        assert "refused" not in done["stderr"], done["stderr"]

    def course(self, transition: Transition) -> Course:
        """Go once without a fault, and once more to the same place from nothing."""
        self.arrive(Scene(None, transition.after.down, transition.after.routes))
        self.arrive(transition.after)
        fresh = self.look()
        self.arrive(transition.before)
        before = self.look()
        self.worker.run([_FORGET])
        new, open_ = [self.witness.settled(open=False)], [self.witness.settled(open=True)]
        self.enter(transition.after)
        new.append(self.witness.settled(open=False))
        open_.append(self.witness.settled(open=True))
        done = self.worker.connbal(transition.command, trace=True)
        assert done["code"] == 0, done["stderr"]
        after = self.look()
        assert after.text == fresh.text, _differ(after.text, fresh.text)
        new.append(self.witness.settled(open=False))
        open_.append(self.witness.settled(open=True))
        traced = [tuple(_chains(one[family]) for family in "46") for one in done["traced"]]
        ledger = self.ledger()
        calls = self.calls_when_kept(transition) if self.kept else done["calls"]
        return Course(
            calls=[(kind, name) for kind, name in calls],
            chains=({before.chains[0], *(one[0] for one in traced)}, {before.chains[1], *(one[1] for one in traced)}),
            before=before,
            after=after,
            ledger=ledger,
            new=_sticky_alike([frozenset(one) for one in zip(*new, strict=True)]),
            open=_sticky_alike([frozenset(one) for one in zip(*open_, strict=True)]),
            new_after=_sticky_alike([frozenset((one,)) for one in new[-1]]),
            open_after=_sticky_alike([frozenset((one,)) for one in open_[-1]]),
        )

    def calls_when_kept(self, transition: Transition) -> list[tuple[str, str]]:
        """What the process that knows how things were asks and does."""
        self.arrive(transition.before)
        self.worker.run([_FORGET])
        self.witness.open()
        self.enter(transition.after)
        calls: list[tuple[str, str]] = self.command(transition.command)["calls"]
        return calls

    # --- looking ----------------------------------------------------------------------------------------------------

    def look(self) -> Look:
        text = ordered(snapshot(self.worker))  # type: ignore[arg-type]  # it needs what can run programs
        build = self.lab.spec.xtables
        parts = _parts(text)
        tables = [parts.get(f"{name}-{build}-save", "") for name in ("iptables", "ip6tables")]
        sets: dict[str, set[str]] = {}
        for line in parts.get("ipset", "").splitlines():
            words = line.split()
            if words[1].startswith("mwan3_"):
                found = sets.setdefault(words[1], set())
                if words[0] == "add":
                    found.add(words[2])
        others = "\n".join(line for line in text.splitlines() if not _OURS.search(line.replace('"mwan3_hook', "")))
        return Look(_STICKY.sub("", text), (_chains(tables[0]), _chains(tables[1])),
                    {name: frozenset(entries) for name, entries in sets.items()}, others)  # fmt: skip

    def ledger(self) -> str:
        file = self.lab.run_dir / "connbal" / "ledger.json"
        return file.read_text() if file.exists() else ""

    # --- one point --------------------------------------------------------------------------------------------------

    def points_of(self, course: Course) -> Iterator[Point]:
        for at, (kind, name) in enumerate(course.calls):
            for mode in MODES[kind]:
                if kind == "connect" and self.netifd == "program":
                    continue  # it is refused anyway
                if self.kept and mode in FATAL:
                    continue
                yield Point(at, kind, name, mode)

    def walk(self, transition: Transition, course: Course, point: Point, *, forever: bool = False) -> None:
        """Have it go wrong at one point, and remember what was not as it should be, in words."""
        self.arrive(transition.before)
        self.worker.run([_FORGET])
        self.witness.open()
        self.enter(transition.after)
        done = self.command(transition.command, at=point.at, mode=point.mode, forever=forever)
        # A set of a section's own that the kernel does not take costs that section, and it is said.
        left_out = (point.kind, point.mode) == ("build", "fails") and "refused" in done["stderr"]
        wrong = self.check_moment(course, left_out=left_out)
        if point.mode in FATAL:
            wrong += [] if done["code"] == -9 else [f"exit {done['code']} though it was to be killed"]
        elif done["code"] not in (0, 1) or "Traceback" in done["stderr"]:
            wrong.append(f"exit {done['code']}: {done['stderr']}")
        if not done["met"]:
            wrong.append("the fault did not reach connbal")
        # What netifd said before counts, except where a source is up that was not.
        if self.kept and asks_netifd(point) and set(transition.before.down) <= set(transition.after.down):
            wrong += [f"exit {done['code']}: {done['stderr']}"] if done["code"] else []
            wrong += [f"waits for netifd: {one}" for one in self.witness.astray(course.new_after, open=False)]
            wrong += [f"waits for netifd: {one}" for one in self.witness.astray(course.open_after, open=True)]
        if "refused" in done["stderr"] and not left_out:
            wrong.append(f"blamed on a section: {done['stderr']}")
        wrong += self.check_after(transition, course, late=point.mode == "late", left_out=left_out)
        self.points += 1
        if wrong:
            self.worker.connbal("stop")
            self.worker.run([_RESET])  # so that one failure is one
            self.arrive(transition.before)
            self.arrive(transition.after)
            course.ledger = self.ledger()  # iptables-legacy has numbers for sets, and these are new ones
            self.failures.append(f"{self.lab.spec.xtables}, {transition.name}, {point}: {'; '.join(wrong)}")

    def check_moment(self, course: Course, *, left_out: bool) -> list[str]:
        """Old or new, as packets see it and as it reads; nothing of others' has changed."""
        look, wrong = self.look(), []
        if not left_out:
            wrong += self.witness.astray(course.new, open=False) + self.witness.astray(course.open, open=True)
            for family, text, allowed in zip("46", look.chains, course.chains, strict=True):
                if text not in allowed:
                    nearest = min((_differ(text, one) for one in allowed), key=len)
                    wrong.append(f"IPv{family}'s chains are neither old nor new: {nearest}")
        for name, entries in look.sets.items():
            known = [one.sets[name] for one in (course.before, course.after) if name in one.sets]
            if known and "_sticky_" not in name and entries not in known:
                wrong.append(f"set {name} is neither old nor new: {sorted(entries)}")
        if look.others != course.before.others and look.others != course.after.others:
            wrong.append(f"others' things have changed: {_differ(look.others, course.before.others)}")
        return wrong + _marks_without_a_rule(look) + self.check_files()

    def check_after(self, transition: Transition, course: Course, *, late: bool, left_out: bool) -> list[str]:
        """The next run puts everything right."""
        wrong = []
        done = self.command(transition.command)
        if late:  # the first may have met a program that did its work meanwhile
            self.worker.run([f"sleep {2 * LATE}"])
            done = self.worker.connbal(transition.command)
        if done["code"] or "refused" in done["stderr"]:
            wrong.append(f"the next run: exit {done['code']}: {done['stderr']}")
        look = self.look()
        if look.text != course.after.text:
            wrong.append(f"the next run does not end where a fresh one does: {_differ(look.text, course.after.text)}")
        for name in transition.after.down:
            held = [one for one, entries in look.sets.items() if one.endswith(f".{name}") and entries]
            wrong += [f"sets of a source that is away hold something: {held}"] if held else []
        if self.ledger() != course.ledger and json.loads(self.ledger()) != json.loads(course.ledger):
            wrong.append(f"the ledger is not that of a fresh run: {_unlike(self.ledger(), course.ledger)}")
        wrong += [f"then, {one}" for one in self.witness.astray(course.new_after, open=False)]
        if not left_out:  # what began while the section was not there keeps its way
            wrong += [f"then, {one}" for one in self.witness.astray(course.open_after, open=True)]
        return wrong + [f"then, {one}" for one in self.check_files()]

    def check_files(self) -> list[str]:
        """No file is lost, half written, or left behind."""
        found = {path.name: path.read_bytes() for path in self.lab.config_dir.iterdir()}
        wrong = [] if found == self.files else [f"the configuration's files have changed: {sorted(found)}"]
        own = self.lab.run_dir / "connbal"
        for path in sorted(own.iterdir()) if own.exists() else ():
            if path.suffix == ".json":
                try:
                    json.loads(path.read_text())
                except ValueError:
                    wrong.append(f"{path.name} is half written")
        return wrong


def asks_netifd(point: Point) -> bool:
    """Whether a call asks netifd something, by whichever way."""
    return point.kind in ("connect", "bus") or point.call.startswith("ubus ")


# --- texts ----------------------------------------------------------------------------------------------------------


def _parts(text: str) -> dict[str, str]:
    """A snapshot by the programs that printed its parts."""
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in text.split("=== ") if part}


def _chains(text: str) -> str:
    """connbal's part of what iptables-save prints of the mangle table, in an order of its own."""
    _, _, rest = text.partition("*mangle\n")
    lines = [re.sub(r"\[\d+:\d+\]", "", line).rstrip() for line in rest.partition("COMMIT")[0].splitlines()]
    own = [line for line in lines if _OWN_LINE.match(line)]
    return "\n".join(sorted(own, key=lambda line: (line[0] != ":", line.split()[1] if line[0] == "-" else line)))


def _marks_without_a_rule(look: Look) -> list[str]:
    """Marks that chains give and no rule takes, or a rule of whose table nothing is known."""
    parts = _parts(look.text)
    wrong = []
    for family, chains in zip("46", look.chains, strict=True):
        rules = parts[f"ip -{family} rule"]
        for value, mask in sorted(set(_MARKS.findall(chains))):
            if value == mask:
                continue  # default
            found = re.findall(rf"fwmark {value}/{mask} (?:lookup (\d+)|unreachable|blackhole) proto 131", rules)
            if not found:
                wrong.append(f"IPv{family}'s mark {value}/{mask} is given, and no rule takes it")
            for table in filter(None, found):
                routes = parts[f"ip -{family} route"]
                if not re.search(rf"^default .*table {table} ", routes, re.MULTILINE):
                    wrong.append(f"IPv{family}'s mark {value}/{mask} leads to a table without a default: {table}")
    return wrong


def _sticky_alike(allowed: list[frozenset[Verdict]]) -> list[frozenset[Verdict]]:
    """What is remembered of a device decides for all that a sticky rule takes, whichever came first."""
    sticky = {4: frozenset[Verdict](), 6: frozenset[Verdict]()}
    for kind, verdicts in zip(KINDS, allowed, strict=True):
        if (kind.proto, kind.dport) == (17, 443):
            sticky[kind.version] |= verdicts
    return [sticky[kind.version] if (kind.proto, kind.dport) == (17, 443) else verdicts
            for kind, verdicts in zip(KINDS, allowed, strict=True)]  # fmt: skip


def _unlike(found: str, wanted: str) -> list[str]:
    """Where two objects of JSON differ."""
    one, two = _leaves("", json.loads(found or "{}")), _leaves("", json.loads(wanted or "{}"))
    return [f"{path}: {one.get(path)}, not {two.get(path)}"
            for path in sorted(one.keys() | two.keys()) if one.get(path) != two.get(path)]  # fmt: skip


def _leaves(path: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {name: leaf for key, inner in value.items() for name, leaf in _leaves(f"{path}/{key}", inner).items()}


def _differ(found: str, wanted: str) -> str:
    one, two = found.splitlines(), wanted.splitlines()
    return f"+{[line for line in one if line not in two]} -{[line for line in two if line not in one]}"



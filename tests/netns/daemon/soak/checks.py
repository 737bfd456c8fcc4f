"""Quiet points: everything is held against the model."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

from connbal.track import journal
from tests.netns.daemon.service import Status
from tests.netns.daemon.soak import flushes
from tests.netns.daemon.soak.steps import Steps
from tests.netns.daemon.soak.values import (
    CLIENTS,
    FAMILIES,
    GROWTH,
    HOSTS,
    OVER,
    PORTS,
    RUNNING,
    SETTLED,
    SLACK,
    STEADY,
    STILL,
    TRACKED,
    TURNS,
    SoakFailed,
)
from tests.netns.main_job.bench import state


class Checks(Steps):
    """What has to hold when nothing is being done."""

    def settle(self) -> None:
        """No more faults, partial loss put right: soon all has to be as the model says, with nothing left to change."""
        self.number += 5  # everything that was put off is due
        self.due()
        for name in sorted(self.world.lossy):
            self.lab.restore(name)
        self.world.lossy.clear()
        self.say("quiet")
        self.reap()
        self.stirred = time.monotonic()
        self.until(self.unsettled, SETTLED)
        self.check_kernel()
        self.tally()

    def quiet(self) -> None:
        self.settle()
        self.check_commands()
        self.check_connections()
        self.check_process()
        self.check_files(RUNNING)
        self.count()

    def until(self, problem: Callable[[], str], patience: float) -> None:
        """Wait until there is no problem any more."""
        end = time.monotonic() + patience
        while found := problem():
            if time.monotonic() > end:
                raise SoakFailed(f"{found}, after {patience:g} s")
            time.sleep(0.05)

    def reap(self) -> None:
        for process, what in self.beside:
            if what.startswith("events"):
                process.kill()
            said, _ = process.communicate(timeout=90)
            code = process.returncode if process.returncode != -signal.SIGKILL else 0
            if "Traceback" in said or (what in ("apply", "plan", "status") and code):
                raise SoakFailed(f"connbal {what}: exit {code}: {said}")
        self.beside.clear()

    def unsettled(self) -> str:
        """What is not yet as the model says, what still happens, or what is left to change; empty: nothing."""
        status = self.service.status()
        happened = self.happened() if status is not None else ""
        wrong = "no answer to status" if status is None else self.wrong(status) or happened
        if not wrong and time.monotonic() - self.stirred < STILL:
            return "not still for long enough"
        if not wrong:
            planned = self.bench.connbal("plan").stdout
            wrong = "" if planned == "nothing to change\n" else f"still to do: {planned}"
        if wrong:
            self.stirred = time.monotonic()
        return wrong

    def happened(self) -> str:
        """What the journal has got since the last look, as lines."""
        records = self.service.events(self.known)
        self.known = max((record["number"] for record in records), default=self.known)
        self.counts["failed runs"] += sum(bool(record.get("error")) for record in records)
        turns = [journal.line(record) for record in records if record["kind"] in TURNS]
        if turns and self.calm and not self.harmful:
            raise SoakFailed(f"no source came or went, and yet: {turns}")
        return "\n".join(map(journal.line, records))

    def wrong(self, status: Status) -> str:
        world, found = self.world, status["interfaces"]
        if not status["reconciles"]["count"]:
            return "no run yet"
        if tuple(found) != world.conf.known:
            return f"interfaces {tuple(found)} instead of {world.conf.known}"
        for half, one in found.items():
            wanted = world.status(half)
            if (one["status"], one["online"]) != (wanted, wanted == "online"):
                return f"{half} is {one['status']} instead of {wanted}: {one['reason']}"
            for name, text in (("STATUS", wanted), ("PID", str(self.service.pid))):
                file = self.service.mwan3track(half) / name
                if not file.exists() or file.read_text() != f"{text}\n":
                    return f"{file} does not say {text}"
        directories = set(os.listdir(self.service.mwan3track("x").parent))
        return "" if directories == set(found) else f"mwan3track has {directories}"

    def check_commands(self) -> None:
        """Nothing is left to change for apply, and status knows what the model knows."""
        before = state(self.lab)
        said = self.bench.connbal("apply", "--verbose").stdout
        after = state(self.lab)
        if said != "nothing to change\n" or before != after:
            lines = set(before.splitlines()) ^ set(after.splitlines())
            raise SoakFailed(f"apply changed something: {said} {sorted(lines)}")
        for one in self.bench.status()["policies"]:
            members = {share["interface"] for share in one["members"]}
            wanted = self.world.tier(one["policy"], 4 if one["family"] == "ipv4" else 6)
            if members != wanted:
                raise SoakFailed(f"policy {one['policy']} {one['family']} uses {members} instead of {wanted}")

    def check_kernel(self) -> None:
        """Rules, tables and chains of interfaces: those of the model, no others."""
        for family in FAMILIES:
            rules, routes, chains = self.lab.router.sh(
                f"ip -{family} rule; echo =; ip -{family} route show table all proto 131; echo =;"
                f" {'iptables' if family == 4 else 'ip6tables'}-save -t mangle"
            ).split("=\n")
            found = (
                {int(line.partition(":")[0]) for line in rules.splitlines() if "proto 131" in line},
                {int(number) for number in re.findall(r" table (\d+)", routes)},
                set(re.findall(r"^:(mwan3_iface_in_\S+)", chains, re.MULTILINE)),
            )
            if found != (wanted := self.world.layout(family)):
                raise SoakFailed(f"IPv{family}: the kernel has {found} instead of {wanted}")

    def check_connections(self) -> None:
        for client in CLIENTS:
            for family in FAMILIES:
                for port in PORTS:
                    self.connect(client, family, port)

    def connect(self, client: str, family: int, port: int) -> None:
        way = self.world.way(client, family, port)
        if way is None:
            return
        sources, sure = way
        answers = self.lab.tcp(client, HOSTS[family][1], port, count=6 if sure else 2, timeout=3 if sure else 0.5)
        if not set(answers.names) <= sources or (sure and answers.failures):
            found = f"{dict(answers.names)} {dict(answers.errors)}"
            raise SoakFailed(f"{client} IPv{family} port {port} got {found} instead of {sources}, sure: {sure}")

    def check_process(self) -> None:
        """Descriptors, threads, memory, children. For each source that is probed, one socket more to probe by, and one
        to ask the kernel whose addresses its hosts have; none for others.
        """
        pid = self.service.pid
        self.until(lambda: self.strangers(pid), SETTLED)
        status = self.service.status()
        assert status is not None
        probed = sum(one["running"] for one in status["interfaces"].values())
        sockets = min(self.sockets(pid) for _ in range(5)) - 2 * probed
        said = Path(f"/proc/{pid}/status").read_text()
        threads, memory = (int(re.search(rf"{word}:\s+(\d+)", said)[1]) for word in ("Threads", "VmRSS"))  # type: ignore[index]
        found = {"sockets": sockets, "threads": threads, "memory": memory}
        limits = {"sockets": SLACK, "threads": SLACK, "memory": GROWTH}
        for what, value in found.items():
            if what == "memory" and status["since"] < 60:
                continue
            base = self.bases.setdefault(what, value)
            if value - base > limits[what] or (what == "sockets" and base - value > SLACK):
                raise SoakFailed(f"{what}: {value}, at first {base}")
        self.memory, self.files = memory, sockets

    def sockets(self, pid: int) -> int:
        """How many there are; of other descriptors more than a few are a fault."""
        time.sleep(0.02)
        found = []
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(file))
        sockets = sum(one.startswith("socket:") for one in found)
        if len(found) - sockets > 20:
            raise SoakFailed(f"descriptors: {found}")
        return sockets

    def children(self, pid: int) -> list[str]:
        found = []
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += file.read_text().split()
        return found

    def strangers(self, pid: int) -> str:
        """A child that is no hook."""
        for child in self.children(pid):
            with contextlib.suppress(OSError):
                said = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
                if not re.search(r"mwan3\.user|hotplug-call|^sleep ", said):
                    return f"child {child}: {said or 'a zombie'}"
        return ""

    def check_files(self, known: set[str]) -> None:
        run = self.lab.run_dir
        for path in sorted(run.rglob("*")):
            parts = path.relative_to(run).parts
            good = parts[0] in ("connbal", "mwan3", "mwan3track") and len(parts) < 2
            good |= parts[0] == "connbal" and len(parts) == 2 and parts[1] in known
            good |= parts[0] == "mwan3track" and (len(parts) <= 2 or TRACKED.fullmatch(parts[2]) is not None)
            if not good or (known is OVER and parts[0] != "connbal"):
                raise SoakFailed(f"{path} is left in the run directory")
        said = self.service.log.read_text(errors="replace")
        if "Traceback" in said or "never retrieved" in said:
            raise SoakFailed("the daemon's log holds a traceback")

    def tally(self) -> None:
        """The steady traffic since the last bout began.

        A connection that is open when its entry is forgotten, because its mark is about to mean another source, may
        be lost: nobody can go on with it. Whatever else is lost is a fault.
        """
        wrong, forgotten = [], flushes.read(self.flushes, self.since)
        for number, one in enumerate(self.traffic):
            answers = one.so_far.since(self.since)
            sure = not self.harmful and number not in self.unsure
            self.flows.update(seen=len(answers), lost=len(answers.failures), sure=len(answers) if sure else 0)
            for answer in answers.failures if sure else ():
                if any(flush.met(answer.at, answer.took) for flush in forgotten):
                    self.flows["forgiven"] += 1
                    continue
                at = answer.at - self.began
                wrong.append(f"{STEADY[number]} at {at:.2f} s for {answer.took:.2f} s: {answer.error}")
        self.since = time.monotonic()
        if wrong:
            told = [f"{one.begin - self.began:.3f}..{one.end - self.began:.3f} s: {one.mark:#x}/{one.mask:#x}"
                    for one in forgotten]  # fmt: skip
            raise SoakFailed(f"connections were lost, though no step since the last quiet point may cost any: {wrong}; "
                             f"forgotten: {told}")  # fmt: skip

    def count(self) -> None:
        """A line about everything; and traffic anew, before its agents come to their end."""
        runs = (self.service.status() or {}).get("reconciles", {}).get("count")
        steps = " ".join(f"{name}={count}" for name, count in sorted(self.counts.items()) if count)
        flows = (
            f"connections {self.flows['seen']}, lost {self.flows['lost']}, "
            f"of {self.flows['sure']} sure ones {self.flows['forgiven']} as they were forgotten"
        )
        print(f"{time.monotonic() - self.began:6.1f} s  bout {self.bouts}: {flows}; runs {runs}; {self.memory} KiB, "
              f"{self.files} sockets; {steps}", flush=True)  # fmt: skip
        if not self.traffic or time.monotonic() - self.sent > 300:
            self.send()

    def send(self) -> None:
        self.traffic_over.close()
        self.sent = time.monotonic()
        self.traffic = [
            self.traffic_over.enter_context(self.lab.constant(client, HOSTS[family][0], port, rate=20, seconds=600))
            for client, family, port in STEADY
        ]

"""The soak: bouts of random faults around a daemon, and a model that knows how things have to be after each.

    python -m tests.netns.daemon.soak --seconds 600 --seed 7

The model is computed from the steps alone. After each bout comes a quiet point, at which status, state files, kernel,
new connections, the daemon's resources and the run directory are held against it. In a calm bout no step may cost a
connection, and the steady traffic of the clients says whether one did. Even and odd seeds are without and with netifd;
each second pair has the legacy build of iptables.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from connbal.model.config import Verdict
from connbal.model.marks import MarkSpace
from connbal.track import journal
from tests.demo.config import section
from tests.lab import ConstantTraffic, Lab, snapshot
from tests.lab.topology import internet_link
from tests.netns.daemon.service import PATIENCE, Service, Status
from tests.netns.main_job.bench import Bench, Driver, state

#: Seconds until everything is as it has to be, and for how long nothing may happen then.
SETTLED, STILL = 20.0, 0.5
#: Growth of the daemon's memory after its first minute, in KiB; descriptors that come and go.
GROWTH, SLACK = 8 << 10, 2
#: Bouts in which the daemon is killed and restarted now and then, and as many in which it lives on.
LIVES, STAYS = 12, 24

CLIENTS, PORTS, FAMILIES = ("tv", "pc"), (443, 5000), (4, 6)
HOSTS = {4: ("203.0.113.1", "198.51.100.1"), 6: ("2001:db8:ffff::1", "2001:db8:ffff::2")}
MASKS = (0x3F00, 0xFF00, 0x3F0000, 0x700)
#: Sections that are left out, or mean nothing for the traffic of the soak.
ODD = (
    "",
    section("rule", "nonsense", ("src_ip", "300.1.2.3"), ("use_policy", "all")),
    section("rule", "nobody", ("use_policy", "no_such_policy")) + section("member", "m_none", ("interface", "none")),
    section("interface", "other", ("enabled", "1"), ("family", "ipv5")),
    section("rule", "listed", ("ipset", "soak_list"), ("use_policy", "one")),
    section("rule", "sticky", ("dest_port", "80"), ("proto", "tcp"), ("sticky", "1"), ("use_policy", "even")),
)
NO_UCI = "config interface 'wan\n\toption enabled\n{["
HOOKS = {"quick": "exit 0", "slow": "sleep 0.3", "failing": "exit 3", "hanging": "echo $$ >>@PIDS@; exec sleep 300"}
#: What may be below the run directory, while a daemon runs and when nothing does.
OWN = {"daemon.pid", "lock", "force.lock", "forced.json", "ledger.json"}
GONE = ("connbal/control", "connbal/events", "mwan3", "mwan3track")
RUNNING, OVER = OWN | {"control", "events", "health.json"}, OWN | {"stopped"}
TRACKED = re.compile(r"(STATUS|TIME|ONLINE|OFFLINE|SCORE|LOST|TURN|STARTED|PID|(TRACK|LATENCY|LOSS)_[0-9a-f.:]+)")


class SoakFailed(AssertionError):
    """Something is not as it has to be."""


# --- the model ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A rule for the TCP connections of a client ("": any) to a port (0: any)."""

    name: str
    client: str
    port: int
    policy: str


@dataclass(frozen=True)
class Conf:
    """A configuration. Policy ``all`` goes by the metrics, ``even`` uses all at once, ``one`` a single source."""

    order: tuple[str, ...]  #: interfaces in the file
    metric: Mapping[str, int]
    weight: Mapping[str, int]
    one: tuple[str, ...]
    rules: tuple[Rule, ...]
    doubted: frozenset[str] = frozenset()  #: interfaces that begin as offline
    off: frozenset[str] = frozenset()
    resort: str = "unreachable"
    mask: int = 0x3F00
    interval: str = "0.2"
    affinity: str = "connection"
    odd: str = ""

    @property
    def space(self) -> MarkSpace:
        return MarkSpace(self.mask)

    def id(self, half: str) -> int:
        return self.order.index(half) + 1

    @property
    def known(self) -> tuple[str, ...]:
        """The interfaces that the mask has room for; others are left out."""
        return self.order[: self.space.capacity]

    def enabled(self, half: str) -> bool:
        return half in self.known and half not in self.off


@dataclass
class World:
    """All that steps have done, and what follows from it. An interface is one family of a source: a half."""

    lab: Lab
    conf: Conf
    forced: dict[str, bool] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)  #: by netifd
    unplugged: set[str] = field(default_factory=set)
    bare: set[tuple[str, int]] = field(default_factory=set)  #: without an address
    cut: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lossy: set[str] = field(default_factory=set)

    @property
    def halves(self) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        for source in self.lab.spec.links.values():
            found |= {source.name: (source.name, 4), source.name6: (source.name, 6)}
        return found

    def linked(self, half: str) -> bool:
        name, family = self.halves[half]
        return name not in self.down and name not in self.unplugged and (name, family) not in self.bare

    def answers(self, half: str) -> bool:
        name, family = self.halves[half]
        return self.linked(half) and family not in self.cut.get(name, ()) and name not in self.lossy

    def status(self, half: str) -> str:
        forced = self.forced.get(half)
        if not self.conf.enabled(half) or not self.linked(half) or forced is False:
            return "disabled"
        return "online" if forced or self.answers(half) else "offline"

    def tier(self, policy: str, family: int) -> set[str]:
        """The interfaces that share what a policy takes."""
        conf = self.conf
        known = {half for half in conf.known if self.halves[half][1] == family and self.status(half) == "online"}
        if policy == "one":
            return known & set(conf.one)
        first = min((conf.metric[half] for half in known), default=0)
        return {half for half in known if policy == "even" or conf.metric[half] == first}

    def way(self, client: str, family: int, port: int) -> tuple[set[str], bool] | None:
        """Which sources a new connection may take, and whether it is sure to be answered; None: as main says."""
        matching = (one for one in self.conf.rules if one.client in ("", client) and one.port in (0, port))
        policy = next((one.policy for one in matching), "default")
        if policy in ("default", "unreachable", "blackhole"):
            return None if policy == "default" else (set(), False)
        tier = self.tier(policy, family)
        if not tier:
            return None if policy == "one" and self.conf.resort == "default" else (set(), False)
        return {self.halves[half][0] for half in tier}, all(map(self.answers, tier))

    def text(self) -> str:
        """The configuration as a file."""
        conf, halves = self.conf, self.halves
        parts = [conf.odd if "config rule" in conf.odd else ""]
        parts.append(section("globals", "globals", ("mmx_mask", hex(conf.mask)), ("affinity", conf.affinity)))
        for half in conf.order:
            family = halves[half][1]
            options = {
                "enabled": str(int(half not in conf.off)), "family": f"ipv{family}", "interval": conf.interval,
                "timeout": "1", "down": "2", "up": "2", "flush_conntrack": "disconnected",
                "initial_state": "offline" if half in conf.doubted else "online",
            }  # fmt: skip
            parts.append(section("interface", half, *options.items(), *(("track_ip", host) for host in HOSTS[family])))
        for half in halves:
            for kind, metric in (("m", conf.metric[half]), ("e", 1)):
                options = {"interface": half, "metric": str(metric), "weight": str(conf.weight[half])}
                parts.append(section("member", f"{kind}_{half}", *options.items()))
        for policy, kind, members in (("all", "m", halves), ("even", "e", halves), ("one", "e", conf.one)):
            used = [("use_member", f"{kind}_{half}") for half in members]
            resort = conf.resort if policy == "one" else "unreachable"
            parts.append(section("policy", policy, *used, ("last_resort", resort)))
        parts += map(self._rule, conf.rules)
        parts.append("" if "config rule" in conf.odd else conf.odd)
        return "\n".join(parts)

    def _rule(self, rule: Rule) -> str:
        options = [("proto", "tcp"), ("dest_port", str(rule.port))] if rule.port else []
        if rule.client:
            client = self.lab.spec.clients[rule.client]
            options += [("src_ip", client.ipv4), ("src_ip", client.ipv6)]
        return section("rule", rule.name, *options, ("use_policy", rule.policy))

    def layout(self, family: int) -> tuple[set[int], set[int], set[str]]:
        """Priorities and tables of routing rules, and chains of interfaces, that there have to be."""
        space = self.conf.space
        known = [half for half in self.halves if self.halves[half][1] == family and self.conf.enabled(half)]
        present = [half for half in known if self.linked(half)]
        ids = {self.conf.id(half) for half in present}
        priorities = {1000, *(space.verdict_priority(one) for one in (Verdict.BLACKHOLE, Verdict.UNREACHABLE))}
        priorities |= {base + number for base in (1000, 2000) for number in ids}
        return priorities | {3000 + self.conf.id(half) for half in known}, ids, {f"mwan3_iface_in_{n}" for n in present}


# --- the machine ----------------------------------------------------------------------------------------------------


class Soak:
    """One soak. ``run`` raises SoakFailed, or what else goes wrong, after it has told all that is known."""

    def __init__(self, lab: Lab, driver: Driver, seed: int) -> None:
        self.lab, self.seed, self.rng = lab, seed, random.Random(seed)
        self.netifd = bool(seed & 1)
        self.service, self.bench = Service(lab), Bench(lab, driver)
        self.began = time.monotonic()
        self.told: deque[str] = deque(maxlen=30)
        self.counts: Counter[str] = Counter()
        self.bouts = self.number = 0
        self.since = self.began
        self.calm = False
        self.stirred = self.sent = self.began
        self.memory = self.files = 0
        self.harmful = ""  #: a step that may have cost a connection since the last quiet point
        self.unsure: set[int] = set()  #: steady connections that were not sure to be answered since then
        self.idle_at: int | None = None  #: at this step the daemon is started again; None: it runs
        self.repaired_at: int | None = None  #: at this step the configuration is put right; None: it is
        self.late: list[tuple[int, str, str, str]] = []
        self.beside: list[tuple[subprocess.Popen[str], str]] = []
        self.known = 0
        self.bases: dict[str, int] = {}
        self.traffic: list[ConstantTraffic] = []
        self.traffic_over = contextlib.ExitStack()
        self.flows: Counter[str] = Counter()
        self.world = World(lab, self.first_conf())

    def first_conf(self) -> Conf:
        halves = tuple(World(self.lab, None).halves)  # type: ignore[arg-type]
        rules = (Rule("tv", "tv", 0, "one"), Rule("web", "", 443, "even"), Rule("everything", "", 0, "all"))
        metric = {half: number // 2 + 1 for number, half in enumerate(halves)}
        doubted = frozenset(half for number, half in enumerate(halves) if self.seed >> number & 4)
        return Conf(halves, metric, dict.fromkeys(halves, 1), halves[-2:], rules, doubted)

    def run(self, seconds: float) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.bench.close)
            stack.callback(self.service_over)
            try:
                self.live(stack, seconds)
            except BaseException:
                self.dump()
                raise

    def live(self, stack: contextlib.ExitStack, seconds: float) -> None:
        if self.netifd:
            self.lab.ubus_stub()
        before, settings = snapshot(self.lab.router), self.sysctls()
        self.hooks("quick")
        self.service.configure(self.world.text())
        self.start()
        stack.callback(self.traffic_over.close)
        while self.bouts == 0 or time.monotonic() - self.began < seconds:
            self.quiet()
            for _ in range(3):
                name = self.rng.choice(ALONE)
                self.bout((name,), 1, STEPS[name][1])
                self.settle()
            calm = self.rng.random() < 0.3
            self.bout([name for name in STEPS if STEPS[name][1] or not calm], self.rng.randint(8, 12), calm)
        self.finish(before, settings)

    def bout(self, names: Sequence[str], count: int, calm: bool) -> None:
        """Some steps, at times several at once. In a calm bout no step may cost a connection or a source."""
        self.bouts += 1
        self.calm, lives = calm, self.bouts % (LIVES + STAYS) >= LIVES
        self.since = time.monotonic()
        self.harmful, self.unsure = "", self.now_unsure()
        names = [name for name in names if not (lives and name in ENDS)]
        for _ in range(count if names else 0):
            self.number += 1
            self.due()
            name = self.rng.choices(names, [STEPS[name][0] for name in names])[0]
            if not STEPS[name][1]:
                self.harmful = self.harmful or name
            self.counts[name] += 1
            getattr(self, f"step_{name}")()
            self.unsure |= self.now_unsure()
            if self.rng.random() < 0.7:
                time.sleep(self.rng.uniform(0.05, 1))

    def now_unsure(self) -> set[int]:
        """Which of the steady connections are not sure to be answered."""
        ways = [self.world.way(*one) for one in STEADY]
        return {number for number, way in enumerate(ways) if way is None or not way[1]}

    def say(self, what: str) -> None:
        self.told.append(f"{time.monotonic() - self.began:7.2f} s  step {self.number}: {what}")

    def due(self) -> None:
        """What earlier steps put off until now, and whether the daemon still lives."""
        for one in [one for one in self.late if one[0] <= self.number]:
            self.late.remove(one)
            self.say(f"line {one[1]} {one[2]}")
            self.line(*one[1:])
        if self.repaired_at is not None and self.repaired_at <= self.number:
            self.configure()
        if self.idle_at is not None and self.idle_at <= self.number:
            self.start()
        process = self.service.process
        if self.idle_at is None and process is not None and process.poll() is not None:
            raise SoakFailed(f"the daemon ended by itself: {process.returncode}")

    # --- the daemon and what is beside it ---------------------------------------------------------------------------

    def start(self) -> None:
        self.say("start")
        self.idle_at, self.known = None, 0
        self.bases.pop("memory", None)
        self.service.start(ready=False)

    def service_over(self) -> None:
        self.service.close()
        for process, _ in self.beside:
            process.kill()
            process.wait()
        self.end_orphans()

    def ready(self) -> bool:
        return self.idle_at is None and self.service.status() is not None

    def line(self, action: str, name: str, device: str = "") -> None:
        """A line for the pipe; nobody reads it where no daemon runs."""
        with contextlib.suppress(OSError):
            self.service.hotplug(action, name, device)

    def announce(self, action: str, source: str) -> None:
        """netifd's word on both halves: at once, late, twice or (where netlink tells all there is) never."""
        how = self.rng.choice(("now", "now", "late", "twice", "never"))
        at = self.number + (self.rng.randint(1, 4) if how in ("late", "never") else 0)
        for name in (source, self.lab.source(source).name6):
            if how != "never" or self.netifd:
                line = action, name, self.lab.source(source).device if action == "ifup" else ""
                self.late += [(at, *line)] * (2 if how == "twice" else 1)
        if at == self.number:
            self.due()

    def configure(self) -> None:
        self.repaired_at = None
        self.service.configure(self.world.text())

    def hooks(self, kind: str) -> None:
        text = f"#!/bin/sh\n{HOOKS[kind]}\n".replace("@PIDS@", str(self.lab.tmp / "hanging"))
        for path in (self.service.user_script, self.service.hotplug_call):
            scratch = path.with_suffix(".new")
            scratch.write_text(text)
            scratch.chmod(0o755)
            scratch.rename(path)

    def end_orphans(self) -> None:
        """Hanging scripts of a daemon that was killed: nobody else ends them."""
        with contextlib.suppress(FileNotFoundError):
            hanging = (self.lab.tmp / "hanging").read_text().split()
            for pid in set(hanging) & {str(pid) for pid, what in self.inside().items() if what == "sleep 300"}:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def inside(self) -> dict[int, str]:
        """The processes in the router."""
        router, found = os.stat(self.lab.router.path).st_ino, {}
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == router:
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().replace("\0", " ").strip()
        return found

    # --- steps: the network -----------------------------------------------------------------------------------------

    def toggled(self, troubled: Callable[[str], object]) -> tuple[str, bool]:
        """A source, and whether it shall be well: the more are in trouble, the likelier."""
        names = list(self.lab.spec.sources)
        bad = [name for name in names if troubled(name)]
        if bad and self.rng.random() < 0.2 + 0.3 * len(bad):
            return self.rng.choice(bad), True
        good = [name for name in names if name not in bad]
        return self.rng.choice(good), False

    def step_cut(self) -> None:
        name, well = self.toggled(self.world.cut.__contains__)
        families = self.rng.choice(((4, 6), (4, 6), (4,), (6,)))
        self.world.lossy.discard(name)
        if well:
            self.lab.restore(name)
            del self.world.cut[name]
        else:
            self.lab.cut(name, families=families)
            self.world.cut[name] = families
        self.say(f"restore {name}" if well else f"cut {name} {families}")

    def step_loss(self) -> None:
        if names := [name for name in self.lab.spec.sources if name not in self.world.cut]:
            name, part = self.rng.choice(names), self.rng.uniform(0.05, 0.7)
            self.lab.loss(name, part)
            self.world.lossy.add(name)
            self.say(f"loss {name} {part:.2f}")

    def step_carrier(self) -> None:
        name, well = self.toggled(self.world.unplugged.__contains__)
        self.plug(name, well)

    def plug(self, name: str, well: bool) -> None:
        self.say(f"carrier {name} {'on' if well else 'off'}")
        self.lab.carrier(name, well)
        (self.world.unplugged.discard if well else self.world.unplugged.add)(name)

    def step_storm(self) -> None:
        name, well = self.rng.choice(self.lab.spec.sources), self.rng.random() < 0.6
        count = self.rng.randint(10, 100)
        self.say(f"{count} flaps of {name}")
        far = internet_link(self.lab.source(name))
        self.lab.internet(name).ip(*(["link set router down", "link set router up"] * (count - 1)), *far)
        self.plug(name, well)

    def step_netifd(self) -> None:
        name, well = self.toggled(self.world.down.__contains__)
        self.netifd_sets(name, well)

    def netifd_sets(self, name: str, well: bool) -> None:
        action = "ifup" if well else "ifdown"
        self.say(f"{action} {name}")
        if well:
            self.lab.ifup(name)
            self.world.down.discard(name)
            self.world.bare -= {(name, 4), (name, 6)}
        else:
            self.lab.ifdown(name)
            self.world.down.add(name)
        self.announce(action, name)

    def step_address(self) -> None:
        """Where there is netifd it would have to know, and then it is as with ifdown."""
        ends = [name for name in self.lab.spec.sources if name not in self.world.down]
        if self.netifd or not ends:
            return
        one = self.rng.choice(ends), self.rng.choice(FAMILIES)
        if one in self.world.bare:
            self.lab.add_address(*one)
            self.world.bare.remove(one)
        else:
            self.lab.remove_address(*one)
            self.world.bare.add(one)
        self.say(f"address {one[0]} {one[1]} {'gone' if one in self.world.bare else 'back'}")

    def step_noise(self) -> None:
        """Lines about nothing."""
        actions = ("ifupdate",) if self.calm else ("ifupdate", "ifup", "ifdown", "ifup-failed")
        lines = [(self.rng.choice(actions), self.rng.choice(("lan", "nobody", *self.world.halves)))
                 for _ in range(self.rng.choice((1, 3, 50)))]  # fmt: skip
        self.say(f"{len(lines)} lines about nothing: {lines[:5]} ...")
        for one in lines:
            self.line(*one)

    # --- steps: the configuration and the user ----------------------------------------------------------------------

    def step_edit(self) -> None:
        """A change that costs no connection."""
        conf, rng = self.world.conf, self.rng
        halves = tuple(self.world.halves)
        kind = rng.choice(("weights", "metrics", "rules", "order", "policy", "interval", "mask", "odd", "affinity"))
        if kind == "weights":
            conf = replace(conf, weight={half: rng.randint(1, 9) for half in halves})
        elif kind == "metrics":
            conf = replace(conf, metric={half: rng.randint(1, 3) for half in halves})
        elif kind == "rules":
            conf = replace(conf, rules=self.new_rules(conf.rules))
        elif kind == "order":
            conf = replace(conf, order=tuple(rng.sample(conf.order, len(conf.order))))
            conf = replace(conf, mask=MASKS[0]) if conf.mask == MASKS[-1] else conf
        elif kind == "policy":
            one = tuple(rng.sample(halves, rng.randint(1, 4)))
            conf = replace(conf, one=one, resort=rng.choice(("unreachable", "default", "blackhole")))
        elif kind == "mask":
            conf = replace(conf, mask=rng.choice(MASKS[:3]) if self.calm else rng.choice(MASKS))
        elif kind == "interval":
            conf = replace(conf, interval=rng.choice(("0.2", "0.3", "0.5")))
        elif kind == "affinity":
            conf = replace(conf, affinity=rng.choice(("connection", "pair", "source")))
        else:
            conf = replace(conf, odd=rng.choice(ODD))
        self.say(f"edit {kind}")
        self.edit(conf)

    def edit(self, conf: Conf) -> None:
        if set(conf.known) != set(self.world.conf.known):
            self.harmful = self.harmful or "other interfaces are known"
        self.world.conf = conf
        self.configure()

    def new_rules(self, rules: Sequence[Rule]) -> tuple[Rule, ...]:
        found, rng = list(rules), self.rng
        if len(found) > 1 and rng.random() < 0.4:
            found.remove(rng.choice(found))
        if rng.random() < 0.6:
            policies = ("all", "all", "even", "even", "one", "default", "unreachable", "blackhole")
            policy = rng.choice(policies[:5] if self.calm else policies)
            rule = Rule(f"r{self.number}", rng.choice(("", *CLIENTS)), rng.choice((0, *PORTS)), policy)
            found.insert(rng.randrange(len(found) + 1), rule)
        if rng.random() < 0.5:
            rng.shuffle(found)
        return tuple(found)

    def step_sections(self) -> None:
        """Interfaces that are enabled, disabled, left out, or have another place."""
        rng, halves = self.rng, tuple(self.world.halves)
        order = tuple(rng.sample(halves, len(halves) if rng.random() < 0.6 else rng.randint(2, len(halves))))
        off = frozenset(half for half in halves if rng.random() < 0.15)
        self.say(f"edit interfaces {' '.join(order)}, off: {' '.join(sorted(off))}")
        self.edit(replace(self.world.conf, order=order, off=off))

    def step_spoil(self) -> None:
        """A file that is not UCI, put right some steps later: meanwhile the last one is in force."""
        if self.repaired_at is None:
            self.service.configure(NO_UCI)
            self.repaired_at = self.number + 2
            self.beside = [(process, f"{what}, spoilt") for process, what in self.beside]
            self.say("a file that is not UCI")

    def step_force(self) -> None:
        half = self.rng.choice(self.world.conf.known)
        word = self.rng.choice(("up", "down", "auto", "auto"))
        spoilt = self.repaired_at is not None
        done = self.bench.connbal("interface", "force", half, word, check=False)
        self.say(f"force {half} {word}: exit {done.code} {done.stderr.strip()}")
        if not spoilt and word == "auto":
            self.world.forced.pop(half, None)
        elif not spoilt:
            self.world.forced[half] = word == "up"

    def step_command(self) -> None:
        """One runs while further steps are taken, or is killed. Without a daemon, apply knows nothing of health."""
        what = self.rng.choice(("apply", "apply", "status", "plan", "events"))
        if what == "apply" and self.idle_at is not None:
            self.harmful = self.harmful or "apply without a daemon"
        argv = self.service.argv(*(("events", "--follow") if what == "events" else (what,)))
        process = self.lab.router.popen(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.beside.append((process, f"{what}, spoilt" if self.repaired_at is not None else what))
        if self.rng.random() < 0.2:
            time.sleep(self.rng.uniform(0.2, 0.6))
            process.kill()
            self.harmful = self.harmful or f"{what} was killed"
            what += ", killed"
        self.say(what)

    def step_hooks(self) -> None:
        kind = self.rng.choice(tuple(HOOKS))
        self.hooks(kind)
        self.say(f"{kind} hooks")

    # --- steps: damage ----------------------------------------------------------------------------------------------

    def step_damage(self) -> None:
        """Others take connbal's rules away. Nobody tells of what iptables-legacy does, so an event follows."""
        rng, family = self.rng, self.rng.choice(FAMILIES)
        layout = self.world.layout(family)
        priorities, tables, chains = sorted(layout[0]), sorted(layout[1]), sorted(layout[2])
        tool = "iptables -w 5 -t mangle" if family == 4 else "ip6tables -w 5 -t mangle"
        chain = rng.choice((*chains, "mwan3_hook", "mwan3_rules", "mwan3_policy_all", "mwan3_ifaces_in"))
        damage = rng.choice((
            f"ip -{family} rule del priority {rng.choice(priorities)} protocol 131",
            f"ip -{family} route flush table {rng.choice(tables or [250])}",
            f"{tool} -D {chain} 1",
            f"{tool} -F; {tool} -A PREROUTING -j others_mangle",
        ))  # fmt: skip
        self.lab.router.run(["sh", "-c", damage], check=False)
        self.say(damage)
        if self.lab.spec.xtables == "legacy":
            self.line("ifupdate", "lan")

    # --- steps: the daemon's life -----------------------------------------------------------------------------------

    def step_hangup(self) -> None:
        if self.ready():
            self.service.signal(signal.SIGHUP)
            self.say("SIGHUP")

    def down(self, end: Callable[[], object]) -> None:
        """End the daemon, to be started again now or some steps later."""
        if self.idle_at is not None:
            return
        if self.beside:
            self.harmful = self.harmful or "the daemon ended while commands ran"
        end()
        self.end_orphans()
        self.idle_at = self.number + self.rng.choice((0, 0, 1, 3))
        self.due()

    def step_kill(self) -> None:
        """At any moment, or in the middle of a change."""
        if self.idle_at is None and self.rng.random() < 0.5:
            self.step_edit()
            self.step_hangup()
            time.sleep(self.rng.uniform(0, 0.3))
        self.say("kill")
        self.down(self.service.kill)

    def step_stop(self) -> None:
        """Everything goes, and comes back."""
        self.say("stop")
        if self.idle_at is None:
            done = self.bench.connbal("stop")
            self.say(f"stopped: {done.stdout}")
            self.down(lambda: self.service.process.wait(PATIENCE))  # type: ignore[union-attr]

    def step_terminate(self) -> None:
        self.say("SIGTERM")
        self.down(self.end)

    def end(self) -> None:
        """By SIGTERM, which is heard from when it answers: before that it ends as any program does."""
        ready = self.ready()
        code = self.service.stop()
        if code != 0 and (ready or code != -signal.SIGTERM):
            raise SoakFailed(f"SIGTERM: the daemon ended with {code}")
        left = [name for name in GONE if (self.lab.run_dir / name).exists()]
        if ready and left:
            raise SoakFailed(f"SIGTERM: the daemon left {left} behind")

    def step_rivals(self) -> None:
        """Two are started at the same time: one lives."""
        self.say("rivals")
        if self.idle_at is None:
            self.idle_at = self.number
            (self.service.kill if self.rng.random() < 0.5 else self.end)()
            self.end_orphans()
        one, other = self.service, Service(self.lab)
        self.start()
        other.start(ready=False)
        limit = time.monotonic() + PATIENCE
        while one.process.poll() is None and other.process.poll() is None:  # type: ignore[union-attr]
            if time.monotonic() > limit:
                other.close()
                raise SoakFailed("two daemons run")
            time.sleep(0.02)
        gone, self.service = (one, other) if one.process.poll() is not None else (other, one)  # type: ignore[union-attr]
        gone.close()
        if gone.process.returncode != 1:  # type: ignore[union-attr]
            raise SoakFailed(f"the daemon that came second ended with {gone.process.returncode}")  # type: ignore[union-attr]

    # --- quiet points -----------------------------------------------------------------------------------------------

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
        """Descriptors, threads, memory, children. One socket more for each source that is probed, none for others."""
        pid = self.service.pid
        self.until(lambda: self.strangers(pid), SETTLED)
        status = self.service.status()
        assert status is not None
        probed = sum(one["running"] for one in status["interfaces"].values())
        sockets = min(self.sockets(pid) for _ in range(5)) - probed
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
        """The steady traffic since the last bout began."""
        wrong = []
        for number, one in enumerate(self.traffic):
            answers = one.so_far.since(self.since)
            sure = not self.harmful and number not in self.unsure
            self.flows.update(seen=len(answers), lost=len(answers.failures), sure=len(answers) if sure else 0)
            for answer in answers.failures if sure else ():
                wrong.append(f"{STEADY[number]} at {answer.at - self.began:.2f} s for {answer.took:.2f} s: {answer.error}")
        self.since = time.monotonic()
        if wrong:
            raise SoakFailed(f"connections were lost, though no step since the last quiet point may cost any: {wrong}")

    def count(self) -> None:
        """A line about everything; and traffic anew, before its agents come to their end."""
        runs = (self.service.status() or {}).get("reconciles", {}).get("count")
        steps = " ".join(f"{name}={count}" for name, count in sorted(self.counts.items()) if count)
        flows = f"connections {self.flows['seen']}, lost {self.flows['lost']}, of {self.flows['sure']} sure ones 0"
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

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self, before: str, settings: str) -> None:
        """All is put right; what is then in the kernel is what a first apply would make, and stop takes it away."""
        self.put_right()
        self.quiet()
        # A set that a rule named is kept for whoever may fill it, until stop.
        lived = re.sub(r"^create soak_list .*\n", "", state(self.lab), flags=re.MULTILINE)
        self.end()
        self.idle_at = self.number
        for again in (False, True):
            self.service.connbal("stop")
            self.nothing_left(before, settings)
            if not again:
                self.service.connbal("apply")
                made = state(self.lab)
                if made != lived:
                    lines = sorted(set(made.splitlines()) ^ set(lived.splitlines()))
                    raise SoakFailed(f"the kernel of a first apply is another: {lines}")

    def put_right(self) -> None:
        world, self.harmful = self.world, "all was put right"
        self.edit(self.first_conf())
        self.hooks("quick")
        for name in self.lab.spec.sources:
            self.lab.restore(name)
            self.plug(name, True)
        world.cut.clear()
        for name in sorted(world.down):
            self.netifd_sets(name, True)
        for one in sorted(world.bare):
            self.lab.add_address(*one)
        world.bare.clear()
        for half in sorted(world.forced):
            self.bench.connbal("interface", "force", half, "auto")
        world.forced.clear()

    def nothing_left(self, before: str, settings: str) -> None:
        for title, old, new in (("kernel", before, snapshot(self.lab.router)), ("sysctls", settings, self.sysctls())):
            if old != new:
                raise SoakFailed(f"{title}: left behind: {sorted(set(old.splitlines()) ^ set(new.splitlines()))}")
        self.check_files(OVER)
        bench = re.compile(r"tests\.netns\.main_job\.driver")
        strangers = {pid: what for pid, what in self.inside().items() if not bench.search(what)}
        if strangers:
            raise SoakFailed(f"processes are left: {strangers}")

    def sysctls(self) -> str:
        return self.lab.router.sh("sysctl -a 2>/dev/null | grep ^net | grep -v conntrack_count || true")

    def dump(self) -> None:
        """All that is known of a failure."""
        print(f"--- seed {self.seed}, bout {self.bouts}; the last steps:", *self.told, sep="\n")
        world = self.world
        print(f"--- the model: {world.conf}\nforced {world.forced}, down {world.down}, unplugged {world.unplugged}, "
              f"bare {world.bare}, cut {world.cut}, lossy {world.lossy}")  # fmt: skip
        for title, told in (("status", self.told_status), ("journal", self.told_journal), ("log", self.service.said),
                            ("plan", lambda: self.service.connbal("plan", check=False).stdout)):  # fmt: skip
            print(f"--- {title}:")
            try:
                print(told())
            except Exception as error:  # the rest is to be told all the same
                print(f"none: {error!r}")

    def told_status(self) -> str:
        status = self.service.status() or {"interfaces": {}, "reconciles": None}
        lines = [f"{name}: {one['status']} {one['score']}/{one['top']}: {one['reason']}"
                 for name, one in status["interfaces"].items()]  # fmt: skip
        return "\n".join([*lines, json.dumps(status["reconciles"])])

    def told_journal(self) -> str:
        return "\n".join(map(journal.line, self.service.events()[-50:]))


#: Of each step how often it comes, and whether it may come in a calm bout.
STEPS: Mapping[str, tuple[float, bool]] = {
    "cut": (4, False), "loss": (1, False), "carrier": (3, False), "storm": (1, False), "netifd": (3, False),
    "address": (2, False), "noise": (1, True), "edit": (4, True), "sections": (1.5, False), "spoil": (0.5, True),
    "force": (2, False), "command": (2, True), "hooks": (1, True), "damage": (3, False), "hangup": (1, True),
    "kill": (0.8, True), "terminate": (0.5, True), "rivals": (0.3, True), "stop": (0.2, False),
}  # fmt: skip
#: Records of sources that come or go.
TURNS = ("ifup", "ifdown", "connected", "disconnected")
#: Steps whose trace others would cover.
ALONE = ("damage", "damage", "edit", "sections", "kill", "force", "carrier", "netifd", "address", "cut")
#: Steps that end the daemon.
ENDS = ("kill", "terminate", "rivals", "stop")
#: The clients' steady traffic: client, family, port.
STEADY = (("tv", 4, 443), ("pc", 6, 5000))


def soak(seconds: float, seed: int) -> None:
    """Soak a daemon for so long, and a bout more. Raises SoakFailed where anything is not as it has to be."""
    with contextlib.ExitStack() as stack:
        driver = Driver()
        stack.callback(driver.close)
        lab = stack.enter_context(Lab(xtables="legacy" if seed & 2 else "nft"))
        Soak(lab, driver, seed).run(seconds)
    print(f"seed {seed}: all is well")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    soak(options.seconds, options.seed)


if __name__ == "__main__":
    main()

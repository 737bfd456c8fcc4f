"""The steps: what is done to the network, the configuration, the daemon and the kernel."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from connbal.track import client
from tests.lab.topology import internet_link
from tests.netns.daemon.service import PATIENCE
from tests.netns.daemon.soak.machine import Machine, Recorded
from tests.netns.daemon.soak.model import Conf, Rule
from tests.netns.daemon.soak.values import (
    CLIENTS,
    DENSE,
    FAMILIES,
    GONE,
    HOOKS,
    KINDS,
    MASKS,
    NO_UCI,
    ODD,
    PORTS,
    SoakFailed,
)


class Steps(Machine):
    """Each method is one random fault or change, done to the lab and to the model alike."""

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

    def step_edit(self) -> None:
        """A change that costs no connection."""
        conf, rng = self.world.conf, self.rng
        halves = tuple(self.world.halves)
        kind = rng.choice(DENSE if self.edits else KINDS)
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
        if self.edits:
            self.in_force()

    def in_force(self) -> None:
        """Have the daemon apply it, as commands that edit do, so that no two edits are one."""
        result = client.apply(self.lab.run_dir, PATIENCE)
        if result is None or result.error:
            raise SoakFailed(f"the daemon does not apply: {result}")

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
        one, other = self.service, Recorded(self.lab)
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

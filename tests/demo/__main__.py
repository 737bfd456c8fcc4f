"""The main job, on real traffic: three kinds of rule at once, then a source that is lost and comes back by itself.

Everything happens in network namespaces that are made here and taken away at the end (with ``--keep``: when asked to).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.demo.config import DETECTION, RECOVERY, examples
from tests.lab import Answers, Lab, Stream
from tests.netns.daemon.service import Service

PAIRS = 2000
TOLERANCE = 0.03


@dataclass
class Report:
    """What was expected and what was seen."""

    failed: list[str] = field(default_factory=list)

    def title(self, text: str) -> None:
        print(f"\n{text}")

    def line(self, what: str, expected: str, measured: str, good: bool) -> None:
        print(f"  {'ok  ' if good else 'BAD '} {what:<34} expected {expected:<24} measured {measured}")
        if not good:
            self.failed.append(what)

    def timed(self, what: str, limit: float, seconds: float | None) -> None:
        """How long something took. On a machine that is busy with other things it may take longer than it should."""
        measured = "never" if seconds is None else f"{seconds:.2f} s{'' if seconds <= limit else ', SLOW'}"
        self.line(what, f"within {limit:.2f} s", measured, seconds is not None)

    def only(self, what: str, source: str, answers: Answers) -> None:
        """Every connection by one source."""
        seen = ", ".join(f"{name} {count}" for name, count in answers.names.most_common())
        lost = f", {len(answers.failures)} lost" if answers.failures else ""
        good = dict(answers.names) == {source: len(answers)}
        self.line(what, f"all {len(answers)} by {source}", f"{seen or 'nothing'}{lost}", good)

    def shares(self, what: str, expected: dict[str, float], answers: Answers) -> None:
        """Connections by share, each within TOLERANCE."""
        good = not answers.failures and all(
            abs(answers.share(name) - share) <= TOLERANCE for name, share in expected.items()
        )
        wanted = ", ".join(f"{name} {share:.0%}" for name, share in expected.items())
        seen = ", ".join(f"{name} {answers.share(name):.1%}" for name in expected)
        self.line(what, wanted, f"{seen} of {len(answers)}", good)

    def asks(self, what: str, expected: str, stream: Stream) -> None:
        """A connection that was open all the while."""
        answer = stream.ask()
        self.line(what, expected, answer or "no answer", (answer or "no answer") == expected)


def rules(lab: Lab, report: Report) -> None:
    """Each rule, by real TCP and UDP connections in both families."""
    for family in (4, 6):
        report.title(f"IPv{family}: one device on one source (rule SmartTV, the TV always by wan2)")
        report.only("TV, TCP port 80", "wan2", lab.tcp("tv", port=80, count=100, family=family))
        report.only("TV, TCP port 443", "wan2", lab.tcp("tv", port=443, count=100, family=family))
        report.only("TV, UDP", "wan2", lab.udp("tv", count=100, family=family))
        report.title(f"IPv{family}: failover (rule Https, wwan before wan1)")
        report.only("another device, TCP port 443", "wwan", lab.tcp("pc", port=443, count=100, family=family))
        report.title(f"IPv{family}: weighted split (rule All_Traffic, wan1 weight 1, wan2 weight 2, inverse)")
        pairs = lab.pairs("pc", PAIRS, family)
        split = {"wan1": 2 / 3, "wan2": 1 / 3}
        report.shares("address pairs, TCP port 80", split, lab.tcp("pc", port=80, pairs=pairs))
        report.shares("address pairs, UDP", split, lab.udp("pc", pairs=pairs))
        same = lab.tcp("pc", port=80, count=50, family=family)
        one = len(same.names) == 1 and not same.failures
        report.line("one device, one site, 50 times", "all by one source", ", ".join(same.names), one)


def failover(lab: Lab, report: Report, service: Service) -> None:
    """Take wwan away and bring it back: how long until new connections are right, and what of those that are open?"""
    report.title("wwan's Internet stops answering; its link stays up")
    with lab.stream("pc", port=443) as by_wwan, lab.stream("pc", port=80) as by_split:
        other = by_split.ask() or "nothing"
        report.asks("open connection, port 443", "wwan", by_wwan)
        report.timed("until new connections work", DETECTION + 0.1, moved(lab, "wan1", lambda: lab.cut("wwan")))
        service.wait_for(["wwan", "wwan6"], "offline")
        service.settled()
        report.only("new connections, TCP port 443", "wan1", lab.tcp("pc", port=443, count=100))
        report.only("new connections, IPv6", "wan1", lab.tcp("pc", port=443, count=100, family=6))
        report.line("open connection by wwan", "no answer", by_wwan.ask() or "no answer", not by_wwan.alive)
        report.asks(f"open connection by {other}", other, by_split)
        report.title("wwan's Internet answers again")
        with lab.stream("pc", port=443) as by_wan1:
            report.timed("until wwan is used again", RECOVERY + 0.1, moved(lab, "wwan", lambda: lab.restore("wwan")))
            service.wait_for(["wwan", "wwan6"], "online")
            service.settled()
            report.only("new connections, TCP port 443", "wwan", lab.tcp("pc", port=443, count=100))
            report.asks("open connection by wan1 stays", "wan1", by_wan1)
        report.title("wwan loses its carrier")
        report.timed("until new connections work", 0.1, moved(lab, "wan1", lambda: lab.carrier("wwan", False)))
        service.wait_for(["wwan", "wwan6"], "disabled")
        service.settled()
        report.only("new connections, TCP port 443", "wan1", lab.tcp("pc", port=443, count=100))
        report.title("wwan has a carrier again")
        lab.carrier("wwan", True)
        service.wait_for(["wwan", "wwan6"], "online")
        service.settled(1.0)  # just after a cable has come back the kernel may still refuse a packet
        report.only("new connections, TCP port 443", "wwan", lab.tcp("pc", port=443, count=100))
        report.asks(f"open connection by {other}", other, by_split)


def moved(lab: Lab, source: str, change: Callable[[], None]) -> float | None:
    """Seconds from the beginning of a change until a new connection to port 443 goes by a source; None: never."""
    pairs = [("", f"100.64.9.{number}") for number in range(1, 5)]  # a site that nothing is remembered of
    with lab.constant("pc", port=443, pairs=pairs, rate=200, seconds=60, timeout=0.9) as traffic:
        traffic.wait_for(5)
        begin = time.monotonic()
        change()
        while time.monotonic() < begin + 20:
            times = [row.at + row.took - begin for row in traffic.so_far if row.source == source and row.at >= begin]
            if times:
                return min(times)
            time.sleep(0.05)
    return None


def run(lab: Lab) -> int:
    """The demo in a lab that is up. Returns how many lines were not as expected."""
    (lab.config_dir / "mwan3").write_text(examples(lab, tracked=True))
    report = Report()
    with Service(lab) as service:
        names = [name for source in lab.spec.links.values() for name in (source.name, source.name6)]
        service.wait_for(names, "online")
        service.settled()
        print(service.connbal("status").stdout)
        rules(lab, report)
        failover(lab, report, service)
        print("\nwhat the daemon has to say of it (connbal events)")
        print("".join(f"  {line[:116]}\n" for line in service.connbal("events").stdout.splitlines()[-12:]), end="")
    print(f"\n{'all as expected' if not report.failed else f'{len(report.failed)} NOT as expected'}")
    return len(report.failed)


def main() -> None:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the lab up at the end and say how to get in")
    parser.add_argument("--xtables", choices=("nft", "legacy"), default="nft", help="which iptables the router uses")
    arguments = parser.parse_args()
    lab = Lab(xtables=arguments.xtables)
    lab.up(keep=arguments.keep)
    try:
        failed = run(lab)
    finally:
        if not arguments.keep:
            lab.close()
    if arguments.keep:
        here = f"--config-dir {lab.config_dir} --run-dir {lab.run_dir}"
        print(f"\nThe lab is still there.\n"
              f"the router: ip netns exec {lab.prefix}-router env PATH={lab.bin_dir}:$PATH sh\n"
              f"there:      .venv/bin/connbal {here} status\n"
              f"the TV:     ip netns exec {lab.prefix}-tv sh (it can reach 203.0.113.1 and 2001:db8:ffff::1)\n"
              f"the daemon: .venv/bin/connbal {here} daemon\n"
              f"break:      .venv/bin/python -m tests.lab unplug {lab.prefix} wan1 (or cut, restore, plug)\n"
              f"take away:  .venv/bin/python -m tests.lab down {lab.prefix}")  # fmt: skip
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

"""The whole walk: ``python -m tests.netns.faults``. Each failure is a line; the last line has the figures."""

from __future__ import annotations

import argparse
import sys
import time

from tests.lab import Lab
from tests.netns.faults.scenes import SOURCES, TRANSITIONS
from tests.netns.faults.seam import MODES
from tests.netns.faults.walk import Walk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.netns.faults", description=__doc__)
    parser.add_argument("--xtables", choices=("nft", "legacy"), action="append", help="build of iptables; both")
    parser.add_argument("--transition", choices=tuple(TRANSITIONS), action="append", help="all")
    parser.add_argument("--kind", choices=tuple(MODES), action="append", help="only calls of this kind; all")
    parser.add_argument("--mode", action="append", help="only this fault; all")
    parser.add_argument("--at", type=int, action="append", help="only at the call of this number; all")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th point")
    parser.add_argument("--kept", action="store_true", help="have one process apply everything, as the daemon does")
    parser.add_argument("--netifd", choices=("bus", "program"), nargs="?", const="bus", default="",
                        help="have netifd asked, over ubusd's socket or, as that refuses, by the program")  # fmt: skip
    options = parser.parse_args()
    points = failures = 0
    for xtables in options.xtables or ("nft", "legacy"):
        for name in options.transition or TRANSITIONS:
            began = time.monotonic()
            with Lab(SOURCES, xtables=xtables) as lab, Walk(lab, options.kept, options.netifd) as walk:
                course = walk.course(TRANSITIONS[name])
                wanted = [point for point in walk.points_of(course)
                          if (not options.kind or point.kind in options.kind)
                          and (not options.mode or point.mode in options.mode)
                          and (not options.at or point.at in options.at)]  # fmt: skip
                for point in wanted[:: options.every]:
                    known = len(walk.failures)
                    walk.walk(TRANSITIONS[name], course, point)
                    print(*walk.failures[known:], sep="\n", end="\n" if walk.failures[known:] else "", flush=True)
                points, failures = points + walk.points, failures + len(walk.failures)
                seconds = time.monotonic() - began
                print(f"{xtables}, {name}: calls {len(course.calls)}, points {walk.points}, "
                      f"failures {len(walk.failures)}, {seconds:.0f} s", flush=True)  # fmt: skip
    print(f"points {points}, failures {failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

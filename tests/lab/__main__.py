"""A lab for a human: `python -m tests.lab up`, look around, `python -m tests.lab down PREFIX`."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.lab.lab import Lab
from tests.lab.node import LabError
from tests.lab.owners import find, remove, states, sweep
from tests.lab.topology import DEFAULT_SOURCES


def main(argv: list[str] | None = None) -> int:
    """Return the exit code: 0, or 1 with the reason on stderr."""
    options = _parser().parse_args(argv)
    try:
        _COMMANDS[options.command](options)
    except (LabError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build a lab and hold it until Ctrl-C")
    up.add_argument("sources", nargs="*", help="names of the sources (default: wan wan1 wan2 wwan)")
    up.add_argument("--guest", action="store_true", help="a second LAN")
    up.add_argument("--xtables", choices=("nft", "legacy"), default="nft", help="the router's iptables")
    up.add_argument("--keep", action="store_true", help="return at once; it ends with `down` or after --hours")
    up.add_argument("--hours", type=float, default=4.0, help="how long it lasts at most (default: 4)")
    commands.add_parser("list", help="show every lab on this machine")
    commands.add_parser("sweep", help="remove labs whose owner is dead")
    for verb, what in (("cut", "silence"), ("restore", "revive"), ("unplug", "unplug"), ("plug", "plug in")):
        command = commands.add_parser(verb, help=f"{what} a source")
        command.add_argument("prefix")
        command.add_argument("source")
    down = commands.add_parser("down", help="remove one lab that was kept")
    down.add_argument("prefix")
    down.add_argument("--force", action="store_true", help="even if a running program holds it")
    return parser


def _up(options: argparse.Namespace) -> None:
    sources = options.sources or DEFAULT_SOURCES
    lab = Lab(sources, guest=options.guest, xtables=options.xtables, lifetime=options.hours * 3600)
    if not options.keep:
        # Asked to end in whatever way, it leaves by the `finally` below.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    try:
        lab.up(keep=options.keep)
        _describe(lab, options.keep)
        if not options.keep:
            signal.pause()
    finally:
        if not options.keep:
            lab.close()


def _describe(lab: Lab, keep: bool) -> None:
    print(f"lab {lab.prefix}: {len(lab.spec.sources)} sources")
    for name, node in lab.nodes.items():
        print(f"  {name:<12} ip netns exec {node.netns} sh")
    print(f"  config       {lab.config_dir}")
    print(f"  try          ip netns exec {lab.nodes['tv'].netns} curl -s http://203.0.113.1/")
    print(f"  end          {f'python -m tests.lab down {lab.prefix}' if keep else 'Ctrl-C'}", flush=True)


def _list(_: argparse.Namespace) -> None:
    for state in states():
        how = "kept" if state.kept else "held"
        print(f"{state.prefix} {how} by {state.pid}" if state.alive else f"{state.prefix} dead, sweep removes it")


def _sweep(_: argparse.Namespace) -> None:
    for prefix in sweep():
        print(f"removed {prefix}")


def _down(options: argparse.Namespace) -> None:
    state = find(options.prefix)
    if state.alive and not state.kept and not options.force:
        raise LabError(f"{state.prefix} is held by process {state.pid}; end that, or use --force")
    remove(state)


def _break(options: argparse.Namespace) -> None:
    lab = Lab.attach(options.prefix)
    if options.command in ("plug", "unplug"):
        lab.carrier(options.source, options.command == "plug")
    else:
        (lab.cut if options.command == "cut" else lab.restore)(options.source)


_COMMANDS = {
    "up": _up,
    "list": _list,
    "sweep": _sweep,
    "down": _down,
    "cut": _break,
    "restore": _break,
    "plug": _break,
    "unplug": _break,
}

if __name__ == "__main__":
    sys.exit(main())

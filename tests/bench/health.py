"""How long connections are lost when a source fails, returns, or something else happens, and what the daemon costs.

``python -m tests.bench.health`` measures everything, in namespaces of its own, which needs root; see README.md here.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.bench.carrier import carrier
from tests.bench.load import load
from tests.bench.lost import lost
from tests.bench.recovery import recovery
from tests.bench.results import Figure, table
from tests.bench.scene import FULL, QUICK, SHORT, Options
from tests.bench.silent import silent
from tests.bench.storm import storm
from tests.lab import LabError

Part = Callable[[Options], Iterator[Figure | str]]
PARTS: dict[str, Part] = {
    "silent": silent, "carrier": carrier, "recovery": recovery, "lost": lost, "load": load, "storm": storm,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where a limit was missed or something failed, 130 where it was interrupted."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(arguments.effort, arguments.xtables)
    found: dict[str, list[Figure]] = {}
    try:
        for name in arguments.parts or PARTS:
            found[name] = run(name, options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (LabError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        if arguments.json is not None:
            _write(arguments.json, options, found)
    missed = [figure.what for figures in found.values() for figure in figures if figure.missed]
    print(f"\nmissed: {len(missed)}" if missed else "\nevery limit was kept")
    return 1 if missed else 0


def run(name: str, options: Options) -> list[Figure]:
    """Measure one part, and print its table."""
    part = PARTS[name]
    print(f"\n{name}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
    said = list(part(options))
    figures = [one for one in said if isinstance(one, Figure)]
    print(table(figures))
    for one in said:
        if isinstance(one, str):
            print(f"  {one}")
    sys.stdout.flush()
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.health", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", type=_part, help=f"{', '.join(PARTS)} (default: all)")
    how = parser.add_mutually_exclusive_group()
    how.set_defaults(effort=FULL)
    how.add_argument("--quick", dest="effort", action="store_const", const=QUICK, help="few repetitions")
    how.add_argument("--short", dest="effort", action="store_const", const=SHORT, help="just to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample too")
    parser.add_argument("--xtables", choices=("nft", "legacy"), default="nft", help="the router's iptables")
    return parser


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


def _write(path: Path, options: Options, found: dict[str, list[Figure]]) -> None:
    parts = {name: [figure.as_json() for figure in figures] for name, figures in found.items()}
    result = {"effort": asdict(options.effort), "xtables": options.xtables, "parts": parts}
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""Measures what connbal does and costs, in labs of its own, and writes a table, JSON and a page with plots.

Needs root, and a machine that does nothing else. Ends with 1 where a target was missed, 130 where it was interrupted;
Ctrl-C takes every lab away.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.bench import against, document, machine, page
from tests.bench.parts import MORE, PARTS, Part
from tests.bench.results import Figure, table
from tests.bench.scene import FULL, QUICK, SHORT, Options
from tests.lab import LabError

_ROOT = Path(__file__).resolve().parents[2]
_EXAMPLES = """examples:
  ./bench                            everything, in less than 10 minutes
  ./bench --quick                    few repetitions, in about 3
  ./bench --only work --only idle    two parts
  ./bench --only lost                a part that is not in the whole: see below
  ./bench --against DIR              connbal beside another program, whose files are in DIR
  ./bench --output /tmp/results      write figures.json and index.html there
  ./bench --docs                     write the table into docs/benchmark.md, too
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(arguments.effort, arguments.xtables)
    parts: dict[str, Part] = {name: ALL[name] for name in arguments.only or ([] if arguments.against else PARTS)}
    if arguments.against:
        parts[against.GROUP] = _beside(arguments.against)
    figures: list[Figure] = []
    remarks: list[str] = []
    described, begin = machine.describe(), time.monotonic()
    code = measure(parts, options, figures, remarks)
    if not figures:
        return code or 1
    result = {"machine": described, "seconds": time.monotonic() - begin, "xtables": options.xtables,
              "effort": asdict(options.effort), "complete": code == 0}  # fmt: skip
    _write(arguments.output, result, figures, remarks)
    if arguments.docs and code == 0:
        document.update(_ROOT / "docs/benchmark.md", result, figures)
        document.claim(_ROOT / "README.md", figures)
    targets = [figure for figure in figures if figure.has_target]
    missed = sum(figure.missed for figure in targets)
    if targets:
        print(f"\ntargets kept: {len(targets) - missed}, missed: {missed}\n{table(targets)}\n")
    print(f"took {result['seconds']:.0f} s; written: {arguments.output}/index.html, {arguments.output}/figures.json")
    return code or (1 if missed else 0)


def measure(parts: Mapping[str, Part], options: Options, figures: list[Figure], remarks: list[str]) -> int:
    """Measure parts, and add what comes of them; the exit code. One that fails ends no other."""
    code = 0
    for name, part in parts.items():
        try:
            run(name, part, options, figures, remarks)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except (LabError, AssertionError, OSError, subprocess.SubprocessError) as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            remarks.append(f"{name} failed: {error}")
            code = 1
    return code


def _beside(directory: Path) -> Part:
    def part(options: Options) -> Iterator[Figure | str]:
        """connbal and another program that does its work, side by side."""
        yield from against.figures(directory, against.SHORT if options.effort is SHORT else against.FULL)

    return part


def run(name: str, part: Part, options: Options, figures: list[Figure], remarks: list[str]) -> None:
    """Measure one part, add what came of it, and print its table."""
    print(f"\n{name}: {(part.__doc__ or '').splitlines()[0]}", flush=True)
    begin = time.monotonic()
    said = list(part(options))
    found = [replace(one, group=one.group or name) for one in said if isinstance(one, Figure)]
    told = [one for one in said if isinstance(one, str)]
    print(table(found), *(f"  {one}" for one in told), f"  took {time.monotonic() - begin:.0f} s", sep="\n", flush=True)
    figures += found
    remarks += told


def _write(directory: Path, result: dict[str, Any], figures: Sequence[Figure], remarks: Sequence[str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    whole = {**result, "figures": [figure.as_json() for figure in figures], "remarks": list(remarks)}
    (directory / "figures.json").write_text(json.dumps(whole, indent=1) + "\n")
    (directory / "index.html").write_text(page.render(result, figures, remarks), encoding="utf-8")


ALL: dict[str, Part] = {**PARTS, **MORE}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./bench", description=__doc__, epilog=f"{_EXAMPLES}\n{_parts()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--only", action="append", metavar="PART", choices=tuple(ALL),
                        help="this part; may be given several times")  # fmt: skip
    parser.add_argument("--against", type=Path, metavar="DIR",
                        help="measure another program beside connbal, and no parts but those of --only")  # fmt: skip
    how = parser.add_mutually_exclusive_group()
    how.set_defaults(effort=FULL)
    how.add_argument("--quick", dest="effort", action="store_const", const=QUICK, help="few repetitions, fewer scales")
    how.add_argument("--short", dest="effort", action="store_const", const=SHORT, help="just to see that it works")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), metavar="DIR",
                        help="directory for figures.json and index.html, from the project's own "
                             "(default: bench-results)")  # fmt: skip
    parser.add_argument("--docs", action="store_true",
                        help="write the table into docs/benchmark.md, and what README.md quotes of it")  # fmt: skip
    parser.add_argument("--xtables", choices=("nft", "legacy"), default="nft", help="the router's iptables")
    return parser


def _parts() -> str:
    lines = []
    for title, parts in (("parts:", PARTS), ("parts that only --only runs:", MORE)):
        lines += [title, *(f"  {name:<10} {(part.__doc__ or '').splitlines()[0]}" for name, part in parts.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

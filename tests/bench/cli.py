"""What the commands cost: whole processes, as ratios to each other in one run.

``python -m tests.bench.cli`` measures them in the router of a lab, which needs root; see README.md here.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.demo.config import section
from tests.lab import Lab, LabError

PASS, CLICK = "python3 -c pass", 'python3 -c "import click"'
#: Sizes of the configuration, in rules; the first is what the others are compared with.
FEW, MANY = 10, 1000
#: The rule that moves, and the packet that no rule but the last matches.
MOVED = "r5"
PACKET = ("--src", "192.168.1.178", "--dst", "8.8.8.8", "--proto", "tcp", "--dport", "443")
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Command:
    """A command of connbal. ``by_click``: times that ``import click`` takes, at most; ``growth``: times that it takes
    with FEW rules, less than that with MANY; None: no limit.
    """

    name: str
    arguments: tuple[str, ...]
    by_click: float | None = None
    growth: float | None = None


COMMANDS = (
    Command("rule list", ("rule", "list"), 1.5, 3.0),
    Command("rule add --no-apply", ("rule", "add", "new", "--use-policy", "all", "--no-apply"), 2.0, 3.0),
    Command("rule move --no-apply", ("rule", "move", MOVED, "--first", "--no-apply"), None, 3.0),
    Command("check", ("check",), None, 3.0),
    Command("explain", ("explain", *PACKET), None, 3.0),
    Command("status", ("status",)),
    Command("export", ("export",)),
)


@dataclass
class Row:
    """One line of the table. ``against``: the row whose median the own is divided by."""

    what: str
    argv: tuple[str, ...]
    against: str = CLICK
    limit: float | None = None
    prepare: Callable[[], object] = lambda: None  #: before each run, outside of its time
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class Skipped(Exception):
    """connbal does not know the command."""


class Bench:
    """Commands in the router of a lab, with configurations of FEW and MANY rules."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._netns = os.open(lab.router.path, os.O_RDONLY | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._env = {**os.environ, **lab.router.env, "LC_ALL": "C.UTF-8"}
        # Compiled once, as on a router; not in the source tree, and whatever this process was told.
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)
        self._env["PYTHONPYCACHEPREFIX"] = str(lab.tmp / "compiled")
        self._directories = {rules: self._configured(rules) for rules in (FEW, MANY)}

    def close(self) -> None:
        os.close(self._netns)

    def rows(self) -> Iterator[Row | str]:
        """What is measured; as a text what is not, and why."""
        yield Row(PASS, (sys.executable, "-c", "pass"))
        yield Row(CLICK, (sys.executable, "-c", "import click"))
        for command in COMMANDS:
            few, many = (f"{command.name}, {rules:,} rules" for rules in (FEW, MANY))
            try:
                yield self._row(few, command, FEW, CLICK, command.by_click)
                yield self._row(many, command, MANY, few, command.growth)
            except Skipped as why:
                yield f"{command.name}: skipped: {why}"

    def time(self, row: Row) -> float:
        """Seconds from the start of a process to its end; what it prints is thrown away."""
        row.prepare()
        begin = time.perf_counter()
        code = subprocess.call(
            row.argv, env=self._env, preexec_fn=self._enter, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        took = time.perf_counter() - begin
        assert code == 0, f"{row.what} ended with {code}"
        return took

    def _enter(self) -> None:
        """In the child: the namespace of the router, without the time that another program would take for that."""
        if self._libc.setns(self._netns, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def _row(self, what: str, command: Command, rules: int, against: str, limit: float | None) -> Row:
        directory = self._directories[rules]
        kept, file = (directory / "mwan3").read_text(), directory / "mwan3"
        run_dir = directory.parent / f"run{rules}"
        connbal = (sys.executable, "-c", "from connbal.cli.main import main; main()",
                   "--config-dir", str(directory), "--run-dir", str(run_dir))  # fmt: skip
        row = Row(what, (*connbal, *command.arguments), against, limit, lambda: file.write_text(kept))
        first = self._run(row.argv)
        if first.returncode == 2:
            raise Skipped(first.stderr.strip().splitlines()[-1])
        assert first.returncode == 0, f"{what}: {first.stderr}"
        row.prepare()
        return row

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=self._env, preexec_fn=self._enter, capture_output=True, text=True, check=False)

    def _configured(self, rules: int) -> Path:
        directory = self._lab.tmp / f"config{rules}"
        directory.mkdir()
        (directory / "network").write_text((self._lab.config_dir / "network").read_text())
        (directory / "mwan3").write_text(configuration(list(self._lab.spec.sources), rules))
        return directory


def configuration(sources: Sequence[str], rules: int) -> str:
    """So many rules, of which the last takes everything and none of the others the packet that is explained."""
    parts = [section("globals", "globals", ("mmx_mask", "0x3F00"))]
    for name in sources:
        parts.append(section("interface", name, ("enabled", "1"), ("family", "ipv4"), ("track_ip", "203.0.113.1")))
        parts.append(section("member", f"{name}_m", ("interface", name), ("metric", "1"), ("weight", "1")))
    parts.append(section("policy", "all", *(("use_member", f"{name}_m") for name in sources)))
    for number in range(rules - 1):
        options = {"src_ip": f"10.{number >> 8}.{number & 255}.0/24", "proto": "tcp", "dest_port": "443"}
        parts.append(section("rule", f"r{number}", *options.items(), ("use_policy", "all")))
    parts.append(section("rule", "everything", ("dest_ip", "0.0.0.0/0"), ("use_policy", "all")))
    return "\n".join(parts)


def measure(bench: Bench, repetitions: int) -> tuple[list[Row], list[str]]:
    """Each row so many times, one after the other again and again, so that a busy moment meets all alike."""
    found = list(bench.rows())
    rows = [one for one in found if isinstance(one, Row)]
    for repetition in range(repetitions + 1):
        for row in rows:
            took = bench.time(row)
            if repetition:  # the first compiles
                row.samples.append(took)
    return rows, [one for one in found if isinstance(one, str)]


def figures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows with their ratios."""
    medians: Mapping[str, float] = {row.what: row.median for row in rows}
    found = []
    for row in rows:
        ratio = row.median / medians[row.against]
        missed = row.limit is not None and ratio > row.limit
        found.append({
            "what": row.what, "seconds": row.median, "against": row.against, "ratio": ratio, "limit": row.limit,
            "missed": missed, "samples": row.samples,
        })  # fmt: skip
    return found


def table(found: Sequence[Mapping[str, Any]]) -> str:
    lines = [("what", "target", "measured", "ratio", "of", "")]
    for one in found:
        limit = one["limit"]
        target = "-" if limit is None else f"{limit:g} x"
        verdict = "" if limit is None else "MISSED" if one["missed"] else "ok"
        lines.append((one["what"], target, f"{one['seconds'] * 1000:.1f} ms", f"{one['ratio']:.2f}", one["against"],
                      verdict))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 0 < column < 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where a target was missed or something failed, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(description="What the commands of connbal cost.")
    parser.add_argument("--repetitions", type=int, default=15, metavar="N", help="runs of each command (default: 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to a file")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Lab(("wan", "wan1")) as lab, contextlib.closing(Bench(lab)) as bench:
            rows, skipped = measure(bench, max(options.repetitions, 1))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (LabError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    found = figures(rows)
    print(table(found), *skipped, sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"figures": found, "skipped": skipped}, indent=2) + "\n")
    missed = [one["what"] for one in found if one["missed"]]
    print(f"\nmissed: {', '.join(missed)}" if missed else "\nevery target was kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the commands cost: whole processes, beside the import that none can do without, and by the number of rules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import programs
from tests.bench.configuration import MOVED, PACKET, configuration
from tests.bench.results import Figure, Floor
from tests.bench.scene import Options
from tests.lab import Lab

#: Sizes of the configuration, in rules; the first is what the others are compared with.
FEW, MANY = 10, 1000


@dataclass(frozen=True)
class Command:
    """A command of connbal. ``by_click``: times that ``import click`` takes, at most; ``growth``: times that it takes
    with FEW rules, at most, with MANY; None: no target.
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
    Command("export", ("export",)),
)


@dataclass
class Row:
    """One line of the table. ``against``: whose samples are its floor."""

    what: str
    rules: int
    argv: tuple[str, ...]
    against: str
    times: float | None
    prepare: Callable[[], object]  #: before each run, outside of its time
    samples: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.what}, {self.rules:,} rules"


class Commands:
    """connbal in the router of a lab in which nothing is applied, with configurations of FEW and MANY rules."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._env = lab, programs.environment(lab)
        self._directories = {rules: self._configured(rules) for rules in (FEW, MANY)}
        self.rows = [row for command in COMMANDS for row in self._rows(command)]

    def time(self, row: Row) -> float:
        row.prepare()
        return programs.timed(self._lab.router, row.argv, self._env)

    def _rows(self, command: Command) -> Iterator[Row]:
        few = self._row(command, FEW, programs.CLICK, command.by_click)
        yield few
        yield self._row(command, MANY, few.name, command.growth)

    def _row(self, command: Command, rules: int, against: str, times: float | None) -> Row:
        directory = self._directories[rules]
        file = directory / "mwan3"
        kept = file.read_text()
        argv = (sys.executable, "-c", "from connbal.cli.main import main; main()", "--config-dir", str(directory),
                "--run-dir", str(directory.parent / f"run{rules}"), *command.arguments)  # fmt: skip
        return Row(f"connbal {command.name}", rules, argv, against, times, lambda: file.write_text(kept))

    def _configured(self, rules: int) -> Path:
        directory = self._lab.tmp / f"config{rules}"
        directory.mkdir()
        (directory / "network").write_text((self._lab.config_dir / "network").read_text())
        (directory / "mwan3").write_text(configuration(list(self._lab.spec.sources), rules))
        return directory


def commands(options: Options) -> Iterator[Figure | str]:
    """What commands take, from the start of their process to its end."""
    with Lab(("wan", "wan1"), xtables=options.xtables) as lab:
        bench, floors = Commands(lab), programs.Floors(lab, (programs.CLICK,))
        for turn in range(options.effort.repetitions + 1):
            floors.turn()
            for row in bench.rows:
                took = bench.time(row)
                if turn:  # the first compiles
                    row.samples.append(took)
    known = {row.name: Floor(row.name, tuple(row.samples)) for row in bench.rows}
    known[programs.CLICK] = floors.floor(programs.CLICK)
    for row in bench.rows:
        yield Figure(row.what, tuple(row.samples), scale={"rules": row.rules}, floor=known[row.against],
                     times=row.times)  # fmt: skip

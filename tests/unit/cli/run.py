"""The whole command line in this process: what it prints, and with which code it ends."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from connbal.cli.main import main

CONFIG = """
config interface 'wan'
	option enabled '1'

config interface 'wan1'
	option enabled '1'
	option made_by_others 'kept'

config member 'm'
	option interface 'wan'

config member 'm1'
	option interface 'wan1'
	option weight '2'

config policy 'both'
	list use_member 'm'
	list use_member 'm1'

config rule 'tv'
	option src_ip '192.0.2.7'
	option use_policy 'both'

config rule
	option proto 'tcp'
	option dest_port '443'
	option use_policy 'both'

config rule 'rest'
	option use_policy 'both'
"""


@dataclass(frozen=True)
class Done:
    """``code``: of the exit."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Router:
    """Directories of one router that connbal was never applied on."""

    root: Path

    @property
    def file(self) -> Path:
        return self.root / "config" / "mwan3"

    @property
    def staged(self) -> Path:
        return self.root / "stage" / "mwan3"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "CONNBAL_CONFIG_DIR": str(self.file.parent), "CONNBAL_RUN_DIR": str(self.root / "run"),
            "CONNBAL_STAGE_DIR": str(self.staged.parent), "CONNBAL_UCI": "embedded", "COLUMNS": "80",
        }  # fmt: skip

    def run(self, *argv: str) -> Done:
        out, err = io.StringIO(), io.StringIO()
        with self.told(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(argv)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
        return Done(code, out.getvalue(), err.getvalue())

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """With the environment that leads to these directories."""
        with mock.patch.dict("os.environ", self.environment):
            yield

    def good(self, *argv: str) -> str:
        done = self.run(*argv)
        assert done.code == 0, done.err
        return done.out


def router(root: Path, config: str | None = CONFIG) -> Router:
    (root / "config").mkdir()
    made = Router(root)
    if config is not None:
        made.file.write_text(config)
    return made

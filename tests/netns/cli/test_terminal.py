"""As tests/unit/cli/test_terminal.py, of the commands that look at the kernel: in a namespace of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.test_terminal import hostile, obeyed, on_a_terminal

pytestmark = pytest.mark.netns

COMMANDS = [
    ["plan"], ["apply", "--verbose"], ["status"], ["mwan3", "rules"], ["mwan3", "interfaces"], ["mwan3", "policies"],
    ["mwan3", "status"], ["mwan3", "internal"], ["explain", "--dst", "192.0.2.1"],
    ["diagnose"], ["diagnose", "wan"], ["metrics"], ["doctor"], ["events"], ["check", "--live"], ["ipset", "list"],
    ["ipset", "show", "youtube"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_value_commands_a_terminal(lab_available: None, tmp_path: Path, arguments: list[str]) -> None:
    found = on_a_terminal(arguments, hostile(tmp_path), ["unshare", "--net"])
    assert found
    assert not obeyed(found), found
    assert b"Traceback" not in found

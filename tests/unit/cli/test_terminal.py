"""What values of the configuration hold never reaches a terminal as something that it would obey."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

#: A title, a cursor's way, one of C1, a direction, a bell, an erased line, and no UTF-8 at all.
HOSTILE = b"\x1b]0;PWN\x07\x1b[2J\xc2\x9b1mPWN\xe2\x80\xae\xe2\x81\xa6\x08\x0d\x0b\xff"
CONFIG = b"""
config globals 'globals'
	option mmx_mask 'VALUE'
	option note 'VALUE'

config interface 'wan'
	option enabled '1'
	option family 'VALUE'
	list track_ip 'VALUE'

config member 'm'
	option interface 'VALUE'
	option weight 'VALUE'

config policy 'p'
	list use_member 'm'
	list use_member 'VALUE'
	option last_resort 'VALUE'

config rule 'r'
	option src_ip 'VALUE'
	option use_policy 'VALUE'
	option ipset 'VALUE'

config rule 's'
	option use_policy 'p'
	option ipset 'VALUE'
	option other 'VALUE'

config other 'o'
	option VALUE 'x'
"""
DHCP = b"""
config ipset
	list name 'VALUE'
	list domain 'VALUE'

config ipset 'youtube'
	list name 'youtube'
	list domain 'youtube.com'
	list domain 'VALUE'
"""
COMMANDS = [
    ["export", "--uci"], ["export"], ["check", "--all"], ["check"], ["globals", "show"],
    *([kind, "list"] for kind in ("interface", "member", "policy", "rule", "ipset")),
    ["interface", "show", "wan"], ["member", "show", "m"], ["policy", "show", "p"], ["rule", "show", "r"],
    ["rule", "show", "s"], ["ipset", "show", "youtube"], ["rule", "set", "r", "--src-ip", "192.0.2.1", "--dry-run"],
    ["rule", "delete", "s", "--dry-run"], ["setup", "failover", "wan", "m", "--dry-run"],
    ["setup", "device", "--ip", "192.0.2.1", "--use", "wan", "--dry-run"], ["doctor", "--differences"],
    ["import", "--diff", "EMPTY"], ["import", "--merge", "--dry-run", "SAME"],
    ["policy", "set", "p", "--last-resort", "default", "--dry-run"],
]  # fmt: skip


def on_a_terminal(arguments: list[str], where: Path, prefix: Sequence[str] = ()) -> bytes:
    """What a command prints to a terminal, on standard output and error."""
    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(where), "--run-dir", str(where / "run")]
    environment = {**os.environ, "NO_COLOR": "1", "CONNBAL_UCI": "embedded"}
    process = subprocess.Popen(
        [*prefix, *argv, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    found = b""
    try:
        while part := os.read(master, 65536):
            found += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(master)
        process.wait(timeout=60)
    return found


def hostile(directory: Path) -> Path:
    """A directory of configurations whose values are all hostile."""
    # In a list of options' names there is no room for it.
    (directory / "mwan3").write_bytes(CONFIG.replace(b"option VALUE", b"option v").replace(b"VALUE", HOSTILE))
    (directory / "dhcp").write_bytes(DHCP.replace(b"VALUE", HOSTILE))
    (directory / "network").write_bytes(b"config interface 'wan'\n\toption device 'VALUE'\n".replace(b"VALUE", HOSTILE))
    (directory / "EMPTY").write_text('{"schema": "export/1", "package": "mwan3", "sections": []}')
    return directory


def obeyed(found: bytes) -> list[str]:
    """What of an output a terminal would obey, besides ends of lines and tabs."""
    text = found.replace(b"\r\n", b"\n").replace(b"\r\x1b[K", b"").decode("utf-8", "surrogateescape")
    return [char for char in text if not (char.isprintable() or char in "\n\t")]


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return hostile(tmp_path)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_no_value_commands_a_terminal(where: Path, arguments: list[str]) -> None:
    if "SAME" in arguments:
        argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(where), "export"]
        (where / "SAME").write_bytes(subprocess.run(argv, capture_output=True, check=True).stdout)
    found = on_a_terminal([str(where / word) if word.isupper() else word for word in arguments], where)
    assert found
    assert not obeyed(found), found
    assert b"Traceback" not in found


def test_a_pipe_gets_every_byte(where: Path) -> None:
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(where), "export", "--uci"]
    found = subprocess.run(argv, capture_output=True, check=True).stdout
    assert HOSTILE in found

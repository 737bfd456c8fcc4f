"""What shells complete: the same in each, as click would, and without Python where Tab is pressed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from connbal.cli.complete import references
from connbal.cli.completion import script, walk
from connbal.cli.main import cli
from tests.unit.test_docs import ACCEPT

ROOT = Path(__file__).resolve().parents[3]
PACKAGED = {
    "bash": ROOT / "files/usr/share/bash-completion/completions/connbal",
    "zsh": ROOT / "files/usr/share/zsh/site-functions/_connbal",
}
#: Shells that understand the part that all scripts share.
SHELLS = ["bash", "zsh", "dash"]
LIMIT = 20.0

MWAN3 = """
config globals 'globals'

config interface wan
	option enabled '1'

config interface "wan1"

config 'member' 'm1'
	option interface 'wan'

# config member 'commented'
config member 'm2'

config policy 'balanced'

config rule 'first'

config rule
	option use_policy 'balanced'

config rule last
"""
NETWORK = "config interface 'loopback'\n\nconfig interface 'wan7'\n\nconfig device\n"


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "mwan3").write_text(MWAN3)
    (tmp_path / "network").write_text(NETWORK)
    return tmp_path


def engine() -> str:
    """The part that all shells share."""
    text = script("bash")
    return text[: text.index("_connbal_bash()")]


def candidates(shell: str, where: Path, *words: str) -> list[str]:
    program = f'{engine()}\n_connbal_candidates "$@"\n'
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "dash": []}[shell]
    done = subprocess.run(
        [shell, *options, "-c", program, shell, str(where), *words],
        text=True, capture_output=True, check=True, timeout=LIMIT, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.splitlines()


CASES = [
    ("rule show", ["first", "@rule[1]", "last"]),
    ("--config-dir /nowhere rule show", []),
    ("--config-dir=/nowhere rule show", []),
    ("member show --json", ["m1", "m2"]),
    ("interface add", ["loopback", "wan7"]),
    ("interface force", ["wan", "wan1"]),
    ("interface force wan", ["up", "down", "auto"]),
    ("interface force wan up", []),
    ("rule add new --use-policy", ["balanced", "unreachable", "blackhole", "default"]),
    ("rule add new --proto", []),
    ("rule move first --before", ["first", "@rule[1]", "last"]),
    ("policy add p --use-member", ["m1", "m2"]),
    ("member add m --interface", ["wan", "wan1"]),
    ("globals set --weight-mode", ["proportional", "inverse"]),
    ("setup failover wan wan1", ["wan", "wan1"]),
    ("daemon --log", ["auto", "syslog", "stderr"]),
    ("events --interface", ["wan", "wan1"]),
    ("import", ["%file"]),
    ("--config-dir", ["%dir"]),
    ("nonsense more", None),
    ("plan", []),
    ("diagnose", ["wan", "wan1"]),
]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_may_follow(shell: str, where: Path) -> None:
    for line, wanted in CASES:
        if wanted is not None:
            assert candidates(shell, where, *line.split(), "") == wanted, line
    assert candidates(shell, where, "rule", "add", "r", "--use-policy=b") == [
        f"--use-policy={one}" for one in ("balanced", "unreachable", "blackhole", "default")
    ]
    assert candidates(shell, where, "plan", "--") == ["--json", "--help"]


def offered(args: list[str], incomplete: str) -> list[str]:
    found = ShellComplete(cli, {}, "connbal", "_CONNBAL_COMPLETE").get_completions(args, incomplete)
    return [item.value for item in found]


def test_every_command_as_click_completes_it(where: Path) -> None:
    """Sub-commands and options of every command: of the script, and of click through the lazy groups."""
    lines = [path.split() for path, _ in walk(cli)]
    program = "\n".join(
        f'echo "# {" ".join(path)}"; _connbal_candidates {where} {" ".join(path)} {last}'
        for path in lines
        for last in ("''", "--")
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{engine()}\n{program}"], text=True, capture_output=True, check=True
    )
    found = [block.splitlines()[1:] for block in done.stdout.split("# ")[1:]]
    for path, plain, options in zip(lines, found[::2], found[1::2], strict=True):
        if not any(one.startswith("%") for one in plain):
            assert sorted(plain) == sorted(offered(["--config-dir", str(where), *path], "")), path
        assert sorted(options) == sorted(offered(path, "--")), path


def test_names_that_click_completes(where: Path) -> None:
    assert offered(["--config-dir", str(where), "rule", "show"], "") == ["first", "@rule[1]", "last"]
    assert offered(["--config-dir", str(where), "rule", "set", "first", "--use-policy"], "b") == [
        "balanced",
        "blackhole",
    ]
    assert offered(["--config-dir", "/nowhere", "rule", "show"], "") == []
    (where / "broken").write_text("config 'x\n")
    assert references(str(where / "broken"), "x") == []


def test_names_that_would_do_harm_are_left_out(where: Path) -> None:
    (where / "mwan3").write_text(
        "config rule '$(reboot)'\n\nconfig rule 'a;b'\n\nconfig rule `x`\n\nconfig rule 'good'\n"
    )
    for shell in SHELLS:
        assert candidates(shell, where, "rule", "show", "") == ["good"]


@pytest.mark.parametrize("shell", PACKAGED)
def test_the_packaged_script_is_the_one_that_is_made(shell: str) -> None:
    wanted, path = script(shell), PACKAGED[shell]
    if ACCEPT:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted)
    assert path.read_text() == wanted, "CONNBAL_DOCS=accept writes it"
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_fish() -> None:
    assert "_CONNBAL_COMPLETE=fish_complete" in script("fish")


# --- real shells, real Tab ----------------------------------------------------------------------------------------


class Terminal:
    """A shell at a terminal of its own."""

    def __init__(self, argv: list[str], where: Path) -> None:
        self._said = ""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.environ.clear()
            os.environ.update(PATH=os.defpath, TERM="dumb", PS1="ASK ", CONNBAL_CONFIG_DIR=str(where), HOME=str(where))
            os.execvp(argv[0], argv)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def until(self, wanted: str) -> str:
        """Read until it has said ``wanted``; what comes behind that is kept for the next time."""
        end = time.monotonic() + LIMIT
        while wanted not in self._said:
            ready, _, _ = select.select([self._terminal], [], [], max(end - time.monotonic(), 0))
            assert ready, f"waited for {wanted!r}; it said {self._said!r}"
            self._said += os.read(self._terminal, 4096).decode("utf-8", "replace")
        said, found, self._said = self._said.partition(wanted)
        return said + found

    def close(self) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "bind 'set bell-style none'; source {path}"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "unsetopt beep zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; source {path}",
    ),
    "autoloaded": (
        ["zsh", "-f", "-i"],
        "unsetopt beep; fpath=({path:h} $fpath); autoload -Uz compinit; compinit -u -D",
    ),
}
#: Typed, and what stands there after Tab and a word more.
TABS = {
    "connbal rule sh\t": "connbal rule show ",
    "connbal rule show fi\t": "connbal rule show first ",
    "connbal policy add p --use-m\t": "connbal policy add p --use-member ",
    "connbal rule set last --use-policy bala\t": "connbal rule set last --use-policy balanced ",
    "connbal globals set --weight-mode=inv\t": "connbal globals set --weight-mode=inverse ",
    "connbal --config-dir $PWD/x interface force wan1 d\t": "interface force wan1 down ",
}


@pytest.mark.parametrize("start", STARTS)
def test_tab(start: str, where: Path) -> None:
    argv, begin = STARTS[start]
    path = PACKAGED[argv[0]]
    text = begin.replace("{path:h}", str(path.parent)).format(path=path)
    terminal = Terminal(argv, where)
    try:
        terminal.type(f"{text}; echo rea''dy\n")
        terminal.until("ready")
        terminal.until("ASK ")
        for typed, wanted in TABS.items():
            terminal.type(f"{typed}END")
            said = terminal.until("END")
            assert wanted in said.replace("\r", ""), (typed, said)
            terminal.type("\025")  # away with the line
    finally:
        terminal.close()

"""What the README says of installing is done to the letter, on a machine with systemd, and what it installs works."""

from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import Lab
from tests.netns.daemon.service import tracked
from tests.netns.daemon.test_hardened import METHODS, every_method
from tests.netns.install.machine import SYSTEMD, Machine, machine
from tests.netns.main_job.bench import only
from tests.unit.test_docs import README, ROOT, blocks

pytestmark = [pytest.mark.netns]

#: Where the checkout is on the machine.
CHECKOUT = "/srv/connbal"
BUILD = "import setuptools.build_meta as build, sys; build.build_sdist(sys.argv[1])"
APT = 'APT::Get::Assume-Yes "true";\nAPT::Install-Recommends "false";\n'
#: A script of the user's: what it may do, and what not.
HOOK = """\
echo "$ACTION $INTERFACE" >>/var/lib/told
[ -z "$NOTIFY_SOCKET$WATCHDOG_USEC" ] || echo manager >>/var/lib/told
for place in /etc /usr /opt/connbal /root /home; do
    touch $place/written 2>/dev/null && echo "wrote into $place" >>/var/lib/told
done
true
"""
#: Waits shortened, as an administrator may change the unit.
SHORT = "[Service]\nWatchdogSec=1\nTimeoutAbortSec=1\nRestartSec=100ms\n"
LEGACY = "[Service]\nEnvironment=CONNBAL_IPTABLES=legacy\n"


def commands() -> list[list[str]]:
    """The README's, block by block."""
    found = [block for block in blocks("console", "install") if block.path == README]
    return [[command for command, _ in block.steps()] for block in found]


@pytest.fixture
def one(lab: Callable[..., Lab]) -> Iterator[Machine]:
    if not Path(SYSTEMD).exists():
        pytest.skip("no systemd: apt-get install systemd")
    with machine(lab(list(METHODS))) as made:
        made.path("/etc/apt/apt.conf.d/99test").write_text(APT)
        shutil.copytree(made.lab.config_dir, made.path("/etc/config"))
        made.path("/etc/mwan3.user").write_text(HOOK)
        drop_in = made.path("/etc/systemd/system/connbal.service.d")
        drop_in.mkdir()
        (drop_in / "short.conf").write_text(SHORT)
        yield made


def test_the_readme(one: Machine, tmp_path: Path) -> None:
    """Its commands; what is built of the checkout; the service: failover, crash, hang, reload, end, all probes."""
    install, service = commands()
    copy(ROOT, tmp_path / "checkout")
    copy(tmp_path / "checkout", one.path(CHECKOUT))
    # Whoever uses a Debian has its lists of packages; where the tests run, all may be there without them.
    one.run(f"{install[0]} || {{ apt-get update && {install[0]}; }}", internet=True)
    for command in install[1:]:
        quiet(one.run(command, cwd=CHECKOUT, internet=True))
    assert one.run("connbal check").returncode == 0
    build(one, tmp_path)

    one.path("/etc/config/mwan3").write_text(tracked(one.lab, ["wan", "wan1"]))
    for command in service:
        one.run(command, cwd=CHECKOUT)
    assert "-g mwan3_policy_all" in one.run("iptables-save -t mangle").stdout, "ready before its rules are in force"
    only(one.lab.tcp("tv", count=10), "wan")
    assert one.run("systemctl is-enabled connbal").stdout in ("enabled\n", "linked\n")
    says(one, "4 of 4 sources online: wan, wan6, wan1, wan1_6")
    fail_over(one)
    for number in (signal.SIGKILL, signal.SIGSTOP):
        come_back(one, number)
    assert "Fatal Python error: Aborted" in one.run("journalctl -u connbal").stdout, "where it hung"
    end(one)
    every_probe(one)


def copy(source: Path, target: Path) -> None:
    """A checkout, without what was made in it."""
    made = (".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*made))


def quiet(done: subprocess.CompletedProcess[str]) -> None:
    """Neither pip nor setuptools says that something is not done so any more."""
    assert not re.search(r"deprecat", done.stdout + done.stderr, re.IGNORECASE), done.stdout + done.stderr


def build(one: Machine, directory: Path) -> None:
    """What is built of the checkout, an sdist, and a wheel that pip makes of that, installs the same, the unit too."""
    expected = record(one)
    assert "../../systemd/system/connbal.service" in expected
    argv = [sys.executable, "-c", BUILD, str(directory)]
    subprocess.run(argv, cwd=directory / "checkout", capture_output=True, check=True, timeout=120)
    (sdist,) = directory.glob("connbal-*.tar.gz")
    shutil.copy(sdist, one.path("/srv"))
    command = f"/opt/connbal/bin/pip install --use-pep517 --force-reinstall --no-deps /srv/{sdist.name}"
    quiet(one.run(command, internet=True))
    assert record(one) == expected


def record(one: Machine) -> dict[str, str]:
    """The files that pip has installed, with their digests; without what tells where they came from."""
    files = one.run("echo /opt/connbal/lib/python3*/site-packages/connbal-*.dist-info/RECORD").stdout.split()
    rows = csv.reader(one.path(files[0]).read_text().splitlines())
    told = ("RECORD", "direct_url.json", "INSTALLER", "REQUESTED", ".pyc")
    return {name: digest for name, digest, _ in rows if not name.endswith(told)}


def fail_over(one: Machine) -> None:
    one.lab.carrier("wan", False)
    told = one.path("/var/lib/told")
    wait(lambda: told.exists() and "disconnected wan\n" in told.read_text(), "the hook")
    only(one.lab.tcp("tv", count=10), "wan1")
    one.lab.carrier("wan", True)
    says(one, "4 of 4 sources online: wan, wan6, wan1, wan1_6")
    assert "wrote" not in told.read_text()
    assert "manager" not in told.read_text()


def come_back(one: Machine, number: signal.Signals) -> None:
    """A signal ends the daemon, or has it hang: systemd starts another one, and nobody's connections wait for it."""
    pid = int(shown(one, "MainPID")[0])
    one.run(f"kill -{number.value} {pid}")
    only(one.lab.tcp("tv", count=10), "wan")
    wait(lambda: int(shown(one, "MainPID")[0]) not in (0, pid), f"another daemon after {number.name}")
    wait(lambda: shown(one, "ActiveState") == ["active"], "it to be ready")
    only(one.lab.tcp("tv", count=10), "wan")


def end(one: Machine) -> None:
    one.run("systemctl reload connbal")
    assert shown(one, "SubState") == ["running"]
    one.run("systemctl stop connbal")
    assert shown(one, "Result") == ["success"]
    only(one.lab.tcp("tv", count=10), "wan")
    one.run("connbal stop")
    assert "mwan3" not in one.run("iptables-save; ip6tables-save; ipset list -n").stdout
    one.run("systemctl disable connbal")
    assert not one.path("/etc/systemd/system/connbal.service").is_symlink()


def every_probe(one: Machine) -> None:
    """No socket and no call that a probe needs is forbidden, nor any of iptables' other build."""
    one.path("/etc/config/mwan3").write_text(every_method())
    one.path("/etc/systemd/system/connbal.service.d/legacy.conf").write_text(LEGACY)
    one.run(commands()[1][0])
    says(one, f"{len(METHODS)} of {len(METHODS)} sources online: {', '.join(METHODS)}")
    assert "-A mwan3_hook" in one.run("iptables-legacy-save -t mangle").stdout
    one.run("systemctl stop connbal")


def says(one: Machine, text: str) -> None:
    """Wait until systemctl shows it as what the daemon is about."""
    wait(lambda: shown(one, "StatusText") == [text], f"{text!r}")


def shown(one: Machine, name: str) -> list[str]:
    """What systemd knows of the service."""
    return one.run(f"systemctl show connbal --value -p {name}").stdout.splitlines()


def wait(good: Callable[[], object], what: str, patience: float = 20.0) -> None:
    end = time.monotonic() + patience
    while not good():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.1)

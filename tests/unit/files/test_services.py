"""The init scripts, uci-defaults and the keep list, with stand-ins for rc.common and procd."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.unit.files.router import BUSYBOX, FILES, Router

CONNBAL, MWAN3 = "etc/init.d/connbal", "etc/init.d/mwan3"


@pytest.fixture
def router(tmp_path: Path) -> Router:
    one = Router(tmp_path)
    one.install(CONNBAL)
    one.install(MWAN3)
    # Its interpreter would be the shell with rc.common, which the kernel takes for one word.
    script = tmp_path / CONNBAL
    (tmp_path / "etc/init").mkdir()
    (tmp_path / "etc/init/connbal").write_text(script.read_text())
    script.write_text(f'#!{BUSYBOX} sh\nexec {BUSYBOX} sh {tmp_path}/rc.common {tmp_path}/etc/init/connbal "$@"\n')
    script.chmod(0o755)
    return one


@pytest.fixture(params=[CONNBAL, MWAN3])
def script(request: pytest.FixtureRequest) -> str:
    """Either name of the service."""
    name: str = request.param
    return name


def test_start(router: Router, script: str) -> None:
    """procd: an instance that is started again without limit, and told of changes of ``mwan3``."""
    router.run(script, "start")
    assert router.lines("procd") == [
        "open", f"command {router.root}/usr/bin/connbal daemon", "respawn 3600 5 0", "term_timeout 30", "stderr 1",
        "limits core=0", "close", "trigger mwan3",
    ]  # fmt: skip


def test_boot_order() -> None:
    """procd: START=19, under the name that others look for."""
    lines = (FILES / CONNBAL).read_text().splitlines()
    assert lines[0] == "#!/bin/sh /etc/rc.common"
    assert {"START=19", "USE_PROCD=1"} <= set(lines)


def test_stop(router: Router, script: str) -> None:
    """Commands: ``stop`` ends the daemon, first for procd, which would start it again, and empties the kernel."""
    router.run(script, "stop")
    assert router.lines("procd")[0] == "kill connbal"
    assert router.lines("calls") == ["connbal stop"]


def test_restart_leaves_the_rules(router: Router, script: str) -> None:
    """``restart``: another environment, which makes procd replace the process; nobody takes rules away."""
    seen = []
    for uptime in ("12.34", "56.78"):
        (router.root / "proc/uptime").write_text(f"{uptime} 1.00\n")
        router.run(script, "restart")
        seen += [line for line in router.lines("procd") if line.startswith("env SERVICE_LIFE=")][-1:]
    assert seen == ["env SERVICE_LIFE=12.34", "env SERVICE_LIFE=56.78"]
    assert router.lines("calls") == []
    router.run(script, "start")
    assert [line for line in router.lines("procd") if line.startswith("env ")][-1] == seen[-1], "restarted once only"


def test_reload(router: Router, script: str) -> None:
    """procd's reload trigger: the daemon reads the configuration; where none runs, it is started."""
    router.run(script, "reload")
    assert "close" in router.lines("procd")
    router.daemon()
    reader = os.open(router.root / "var/run/connbal/events", os.O_RDWR | os.O_NONBLOCK)
    router.run(script, "reload")
    assert os.read(reader, 100) == b"changed config\n"
    os.close(reader)
    assert router.lines("calls") == []


def test_running(router: Router, script: str) -> None:
    """``running`` = the service runs: by its process, or by procd while Python is being loaded."""
    assert router.run(script, "running", check=False).returncode != 0
    (router.root / "procd-runs-connbal").touch()
    assert router.run(script, "running", check=False).returncode == 0
    (router.root / "procd-runs-connbal").unlink()
    router.daemon()
    assert router.run(script, "running", check=False).returncode == 0
    next(router.root.glob("proc/*/comm")).write_text("sleep\n")
    assert router.run(script, "running", check=False).returncode != 0


def test_enable_and_disable(router: Router) -> None:
    """``/etc/init.d/mwan3`` (enable disable): one link for both names, so that nothing is started twice at boot."""
    router.run(MWAN3, "enable")
    assert [path.name for path in (router.root / "etc/rc.d").iterdir()] == ["S19connbal"]
    assert router.run(MWAN3, "enabled", check=False).returncode == 0
    router.run(MWAN3, "disable")
    assert list((router.root / "etc/rc.d").iterdir()) == []
    assert router.run(MWAN3, "enabled", check=False).returncode != 0


def test_while_an_image_is_built(router: Router) -> None:
    """Packaging: with IPKG_INSTROOT nothing of the building machine is touched."""
    argv = [str(BUSYBOX), "sh", str(router.root / MWAN3), "enable"]
    subprocess.run(argv, env={"IPKG_INSTROOT": "/image"}, check=True, timeout=20)
    assert list((router.root / "etc/rc.d").iterdir()) == []


def test_uci_defaults(router: Router) -> None:
    """uci-defaults: an existing /etc/config/mwan3 stays as it is; mwan3's own link for the boot goes."""
    config = router.root / "etc/config/mwan3"
    config.write_text("config globals 'globals'\n\toption mmx_mask '0xff00'\n")
    config.chmod(0o644)
    before = config.read_bytes(), config.stat().st_mtime_ns
    for link in ("S19mwan3", "K89mwan3", "S19connbal"):
        (router.root / "etc/rc.d" / link).symlink_to("../init.d/mwan3")
    (router.root / "etc/uci-defaults").mkdir()
    router.install("etc/uci-defaults/80-connbal")
    for _ in range(2):
        assert router.run("etc/uci-defaults/80-connbal").returncode == 0
    assert (config.read_bytes(), config.stat().st_mtime_ns) == before
    assert config.stat().st_mode & 0o777 == 0o600, "who may read it could lock it"
    assert [path.name for path in (router.root / "etc/rc.d").iterdir()] == ["S19connbal"]


def test_what_an_upgrade_keeps() -> None:
    """Packaging: conffiles /etc/config/mwan3 and /etc/mwan3.user outlive sysupgrade."""
    kept = ["/etc/config/mwan3", "/etc/config/.connbal", "/etc/mwan3.user"]
    assert (FILES / "lib/upgrade/keep.d/connbal").read_text().split() == kept


@pytest.mark.parametrize("name", ["usr/sbin/mwan3", CONNBAL, MWAN3, "etc/uci-defaults/80-connbal"])
def test_modes_and_syntax(name: str) -> None:
    """What is run is executable, and busybox's shell can read it."""
    path = FILES / name
    assert stat.S_IMODE(path.stat().st_mode) & 0o111
    subprocess.run([str(BUSYBOX), "sh", "-n", str(path)], check=True, timeout=20)


def test_the_user_script_does_nothing_as_shipped(tmp_path: Path) -> None:
    """Files: /etc/mwan3.user, which sh runs whatever its mode is: LuCI writes it with 0644."""
    done = subprocess.run([str(BUSYBOX), "sh", str(FILES / "etc/mwan3.user")], env={}, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")

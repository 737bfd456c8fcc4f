"""What the packages put on a router, and what installing and removing them does."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

from tests.lab import snapshot
from tests.router.configs import balanced
from tests.router.conftest import MakeRouter
from tests.router.router import Router

#: Files that others look for, with their modes.
FILES = {
    "/etc/config/mwan3": 0o600,
    "/etc/hotplug.d/iface/15-connbal": 0o644,
    "/etc/init.d/connbal": 0o755,
    "/etc/init.d/mwan3": 0o755,
    "/etc/mwan3.user": 0o644,
    "/lib/upgrade/keep.d/connbal": 0o644,
    "/usr/bin/connbal": 0o755,
    "/usr/libexec/rpcd/connbal": 0o755,
    "/usr/libexec/rpcd/mwan3": 0o755,
    "/usr/sbin/mwan3": 0o755,
    "/usr/share/rpcd/acl.d/connbal.json": 0o644,
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_where_others_look_for_them(staged: Path, name: str) -> None:
    """Contract: mwan3's command, init script and plugin, /etc/mwan3.user with mode 0644, `-e /etc/config/mwan3`."""
    assert stat.S_IMODE((staged / name[1:]).stat().st_mode) == FILES[name]


def test_what_is_kept_is_there(staged: Path) -> None:
    """Contract: conffiles are /etc/config/mwan3 and /etc/mwan3.user."""
    listed = (staged / "usr/lib/opkg/info/connbal.conffiles").read_text().split()
    assert listed == ["/etc/config/mwan3", "/etc/mwan3.user"]
    assert all((staged / name[1:]).is_file() for name in listed)


def test_modules_are_bytecode_without_sources(staged: Path) -> None:
    """Contract: installed .py files are byte-compiled and the sources removed; no metadata of the build is left."""
    assert list(staged.rglob("*.py")) == []
    assert not [path for path in staged.rglob("*") if path.name.endswith((".egg-info", ".dist-info", "__pycache__"))]
    own = {path.relative_to(staged).parts[4] for path in staged.glob("usr/lib/python3*/site-packages/*/__init__.pyc")}
    assert own == {"connbal", "icmplib"}


def test_nothing_is_there_that_only_others_need(staged: Path) -> None:
    """The unit for systemd is for other Linux: a router has no room for what it does not use."""
    assert not [path for path in staged.rglob("*") if "systemd" in path.name]


def test_no_file_is_anybodys_but_the_owners_to_write(staged: Path) -> None:
    """Whatever the umask of the tree was that it was built from."""
    bad = [path for path in staged.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert bad == []


@pytest.mark.netns
def test_every_shell_script_is_one_for_busybox(router: MakeRouter) -> None:
    """A router has no other shell."""
    one = router(["wan"])
    for file in one.sh("grep -lr '^#!/bin/sh' /etc /usr/sbin /usr/libexec /usr/bin").split():
        one.run(["/bin/sh", "-n", file])
    one.run(["/bin/sh", "-n", "/etc/hotplug.d/iface/15-connbal"])


@pytest.mark.netns
def test_an_image_is_built_without_touching_the_builder(router: MakeRouter) -> None:
    """Contract: postinst and prerm are guarded by IPKG_INSTROOT. The service is enabled, not started."""
    one = router(["wan"])
    image = "/tmp/image"
    for part in ("etc", "lib", "usr/lib/opkg"):
        shutil.copytree(one.root / part, one.path(f"{image}/{part}"), symlinks=True)
    for name in ("connbal", "luci-app-connbal", "python3-icmplib"):
        one.sh(f". {image}/lib/functions.sh; default_postinst {image}/usr/lib/opkg/info/{name}.postinst",
               env={"IPKG_INSTROOT": image})  # fmt: skip
    assert one.sh(f"ls {image}/etc/rc.d").split() == ["S19connbal"]
    assert one.sh("ls /etc/rc.d").split() == []
    assert one.ubus("service", "list") == {}
    one.sh(f". {image}/lib/functions.sh; default_prerm {image}/usr/lib/opkg/info/connbal.prerm",
           env={"IPKG_INSTROOT": image})  # fmt: skip
    assert one.sh(f"ls {image}/etc/rc.d").split() == []


def install(router: Router, name: str = "connbal") -> None:
    """What the package manager does once the files are there."""
    router.sh(f". /lib/functions.sh; default_postinst /usr/lib/opkg/info/{name}.postinst")


def remove(router: Router, name: str = "connbal", upgrade: bool = False) -> None:
    """What the package manager does before the files go."""
    env = {"PKG_UPGRADE": "1"} if upgrade else {}
    router.sh(f". /lib/functions.sh; default_prerm /usr/lib/opkg/info/{name}.prerm", env=env, timeout=60)


@pytest.mark.netns
def test_installing_starts_the_service_and_removing_it_leaves_nothing(router: MakeRouter) -> None:
    """Contract: the file of who had mwan3 stays as it was; START=19; after removal the kernel is as before."""
    config = "# mine\n" + balanced({"wan": True})
    one = router(["wan"], config=config)
    before = snapshot(one.lab.router)
    install(one)
    one.wait(lambda: one.read("/var/run/mwan3track/wan/STATUS") == "online", "wan to be online")
    assert one.path("/etc/config/mwan3").read_text() == config
    assert one.sh("ls /etc/rc.d").split() == ["S19connbal"]
    assert not list(one.path("/etc/uci-defaults").glob("*"))
    remove(one)
    assert one.sh("ls /etc/rc.d").split() == []
    assert snapshot(one.lab.router) == before
    assert one.sh("ps").count("connbal") == 0


@pytest.mark.netns
def test_an_upgrade_leaves_the_service_enabled(router: MakeRouter) -> None:
    """OpenWrt's package manager says PKG_UPGRADE=1 then."""
    one = router(["wan"], config=balanced({"wan": True}))
    install(one)
    remove(one, upgrade=True)
    assert one.sh("ls /etc/rc.d").split() == ["S19connbal"]
    install(one)
    one.wait(lambda: one.read("/var/run/mwan3track/wan/STATUS") == "online", "wan to be online")


#: What the package mwan3 has and connbal has not; its own names otherwise are connbal's, too.
MWAN3 = ("/usr/sbin/mwan3track", "/usr/sbin/mwan3rtmon", "/lib/mwan3/mwan3.sh", "/lib/mwan3/common.sh",
         "/etc/hotplug.d/iface/15-mwan3", "/etc/hotplug.d/iface/16-mwan3-user",
         "/etc/uci-defaults/mwan3-migrate-flush_conntrack", "/usr/share/rpcd/ucode/mwan3")  # fmt: skip


@pytest.mark.netns
def test_what_mwan3s_package_leaves_is_named_and_does_no_harm(router: MakeRouter) -> None:
    """Contract: the name `mwan3` on ubus is connbal's beside newer mwan3's ucode script; doctor names what is left."""
    one = router(["wan"], config=balanced({"wan": True}))
    for name in MWAN3:
        one.path(name).parent.mkdir(parents=True, exist_ok=True)
        one.path(name).write_text("exit 0\n")
    for name in ("/var/state/mwan3", "/var/run/mwan3/mmx_mask", "/var/run/mwan3/iface_state/wan"):
        one.path(name).parent.mkdir(parents=True, exist_ok=True)
        one.path(name).write_text("\n")
    one.sh("ln -s ../init.d/mwan3 /etc/rc.d/S19mwan3")
    install(one)
    one.wait(lambda: one.read("/var/run/mwan3track/wan/STATUS") == "online", "wan to be online")
    assert one.sh("ls /etc/rc.d").split() == ["S19connbal"]
    assert set(one.ubus("mwan3", "status")) == {"interfaces", "connected", "policies"}
    said = json.loads(one.run(["connbal", "doctor", "--json"]).stdout)
    assert set(said["installed"]) == set(MWAN3)
    files = ["/var/run/mwan3/iface_state", "/var/run/mwan3/mmx_mask", "/var/state/mwan3"]
    assert sorted(said["left"]["files"]) == files
    one.run(["connbal", "doctor", "--take-over"])
    assert not [name for name in files if one.path(name).exists()]
    # What comes next, mwan3 for one, must find the names on ubus free.
    remove(one)
    for name in ("connbal", "mwan3"):
        one.path(f"/usr/libexec/rpcd/{name}").unlink()
    one.run(["/bin/sh", "/usr/lib/opkg/info/connbal.postrm", "remove"])
    assert one.ubus("mwan3", "status") == {"by": "ucode"}
    assert "connbal" not in one.sh("ubus list").split()

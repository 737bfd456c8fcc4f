"""Which files root runs as programs: only what nobody else can have written, or can exchange."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from connbal.errors import Severity
from connbal.kernel import scripts
from connbal.kernel.scripts import Untrusted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")

NOBODY = 65534


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir(mode=0o755)
    path = tmp_path / "etc/mwan3.user"
    path.write_text("echo\n")
    path.chmod(0o644)
    return path


def owner(path: Path) -> None:
    os.chown(path, NOBODY, 0)


def owner_of_directory(path: Path) -> None:
    os.chown(path.parent, NOBODY, 0)


def mode(bits: int) -> Callable[[Path], None]:
    return lambda path: path.chmod(bits)


def mode_of_directory(bits: int) -> Callable[[Path], None]:
    return lambda path: path.parent.chmod(bits)


def _elsewhere(path: Path, bits: int) -> Path:
    other = path.parents[1] / "other"
    other.mkdir()
    path.rename(other / "script")
    other.chmod(bits)
    return other / "script"


def link(bits: int) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(_elsewhere(path, bits))


def link_of_nobody(path: Path) -> None:
    link(0o755)(path)
    os.lchown(path, NOBODY, 0)


def link_by_a_link(path: Path) -> None:
    """Every one of them is root's, but one of them lies where everybody may write."""
    target = _elsewhere(path, 0o755)
    middle = path.parents[1] / "middle"
    middle.mkdir()
    middle.chmod(0o1777)
    (middle / "link").symlink_to(target)
    path.symlink_to("../middle/link")


def directory_by_a_link(path: Path) -> None:
    etc, open_ = path.parent, path.parents[1] / "open"
    open_.mkdir()
    open_.chmod(0o777)
    etc.rename(open_ / "real")
    etc.symlink_to(open_ / "real")


def above(path: Path) -> None:
    path.parents[1].chmod(0o777)


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to("mwan3.user")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(("spoil", "why", "remedy"), [
    (owner, "it belongs to user 65534", "chown -h root:root {0}"),
    (mode(0o664), "others may write it, mode 664", "chmod go-w {0}"),
    (mode(0o646), "others may write it, mode 646", "chmod go-w {0}"),
    (mode(0o777), "others may write it, mode 777", "chmod go-w {0}"),
    (owner_of_directory, "{1} belongs to user 65534", "chown -h root:root {1}"),
    (mode_of_directory(0o775), "others may write {1}, mode 775", "chmod go-w {1}"),
    (mode_of_directory(0o757), "others may write {1}, mode 757", "chmod go-w {1}"),
    (mode_of_directory(0o1777), "others may write to {1}, where it lies", "put it elsewhere"),
    (link(0o777), "others may write {2}/other, mode 777", "chmod go-w {2}/other"),
    (link(0o1777), "others may write to {2}/other, where {2}/other/script lies", "put it elsewhere"),
    (link_of_nobody, "it belongs to user 65534", "chown -h root:root {0}"),
    (link_by_a_link, "others may write to {2}/middle, where {2}/middle/link lies", "put it elsewhere"),
    (directory_by_a_link, "others may write {2}/open, mode 777", "chmod go-w {2}/open"),
    (above, "others may write {2}, mode 777", "chmod go-w {2}"),
    (fifo, "it is no file", "put a script there, or nothing"),
    (directory, "it is no file", "put a script there, or nothing"),
])  # fmt: skip
def test_what_is_not_run(script: Path, spoil: Callable[[Path], None], why: str, remedy: str) -> None:
    spoil(script)
    places = (script, script.parent, script.parents[1])
    with pytest.raises(Untrusted) as refused:
        scripts.user_script(script)
    assert (refused.value.why, refused.value.remedy) == (why.format(*places), remedy.format(*places))
    (found,) = scripts.findings(script, script.parent / "none")
    assert (found.severity, found.code, found.place) == (Severity.WARNING, "untrusted-script", str(script))
    assert found.remedy == refused.value.remedy
    if remedy.startswith("ch"):
        subprocess.run(shlex.split(found.remedy), check=True)  # the remedy is one
        assert scripts.user_script(script) == ["/bin/sh", str(script)]


@pytest.mark.parametrize("bits", [0o600, 0o644, 0o755, 0o700, 0o000, 0o4755])
def test_what_is_run(script: Path, bits: int) -> None:
    """LuCI writes it with mode 0644."""
    script.chmod(bits)
    assert scripts.user_script(script) == ["/bin/sh", str(script)]
    assert list(scripts.findings(script, script.parent / "none")) == []


def test_links_of_roots_are_followed(script: Path) -> None:
    link(0o755)(script)
    assert scripts.user_script(script) == ["/bin/sh", str(script)]


def test_what_is_not_there(script: Path) -> None:
    script.unlink()
    assert scripts.user_script(script) is None
    script.symlink_to("nowhere")
    assert scripts.user_script(script) is None
    assert scripts.user_script(script / "x") is None


def test_the_interpreter_is_looked_at_too(script: Path) -> None:
    other = script.parent / "interpreter"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    script.write_text(f"#!{other} -x\n")
    assert scripts.user_script(script) == [str(other), "-x", str(script)]
    owner(other)
    with pytest.raises(Untrusted, match=f"{other}: not run as root: it belongs to user 65534"):
        scripts.user_script(script)


def test_what_hotplug_call_would_run(script: Path) -> None:
    call, hooks = script.parent / "hotplug-call", script.parent / "iface"
    assert scripts.hotplug_call(call, hooks) is None
    call.write_text("#!/bin/sh\n")
    assert scripts.hotplug_call(call, hooks) is None
    call.chmod(0o755)
    assert scripts.hotplug_call(call, hooks) == [str(call), "iface"]
    hooks.mkdir()
    (hooks / "10-one").write_text("")
    (hooks / "nowhere").symlink_to("x")
    assert scripts.hotplug_call(call, hooks) == [str(call), "iface"]
    owner(hooks / "10-one")
    with pytest.raises(Untrusted, match="10-one: not run as root: it belongs"):
        scripts.hotplug_call(call, hooks)
    os.chown(hooks / "10-one", 0, 0)
    hooks.chmod(0o777)
    with pytest.raises(Untrusted, match="others may write"):
        scripts.hotplug_call(call, hooks)
    hooks.chmod(0o1777)
    with pytest.raises(Untrusted, match="others may put scripts there; put it elsewhere"):
        scripts.hotplug_call(call, hooks)
    hooks.chmod(0o755)
    call.chmod(0o775)
    with pytest.raises(Untrusted, match="others may write it, mode 775"):
        scripts.hotplug_call(call, hooks)

"""Which processes are mwan3's, and what procd says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbal.errors import KernelError
from connbal.kernel import rival
from connbal.kernel.rival import Process


def process(proc: Path, pid: int, words: list[str], namespace: str = "net:[1]") -> None:
    place = proc / str(pid)
    (place / "ns").mkdir(parents=True)
    (place / "cmdline").write_bytes("".join(f"{word}\0" for word in words).encode())
    (place / "ns/net").symlink_to(namespace)


def test_processes(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/net").symlink_to("net:[1]")
    process(tmp_path, 10, ["/bin/sh", "/usr/sbin/mwan3track", "wan", "eth1", "online"])
    process(tmp_path, 11, ["/usr/sbin/mwan3rtmon", "ipv4"])
    process(tmp_path, 12, ["/bin/busybox", "ash", "/usr/sbin/mwan3track", "wan1"])
    process(tmp_path, 20, ["vi", "/usr/sbin/mwan3track"])
    process(tmp_path, 21, ["/bin/sh", "-c", "/usr/sbin/mwan3track wan"])
    process(tmp_path, 22, ["/home/me/mwan3track", "wan"])
    process(tmp_path, 23, ["/bin/sh", "/usr/sbin/mwan3track", "wan"], "net:[2]")
    process(tmp_path, 24, [])
    found = rival.processes(tmp_path)
    assert found == (
        Process(10, "/usr/sbin/mwan3track", ("wan", "eth1", "online")),
        Process(11, "/usr/sbin/mwan3rtmon", ("ipv4",)),
        Process(12, "/usr/sbin/mwan3track", ("wan1",)),
    )
    assert [one.interface for one in found] == ["wan", "", "wan1"]


def test_a_number_that_is_another_processs_now_is_not_ended() -> None:
    import os

    assert not rival.end(Process(os.getpid(), "/usr/sbin/mwan3track", ("wan",)))


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        ('{"mwan3": {"instances": {"t": {"command": ["/usr/sbin/mwan3track", "wan"]}}}}', True),
        ('{"mwan3": {"instances": {"t": {"command": ["/usr/bin/connbal", "daemon"]}}}}', False),
        ('{"mwan3": {"instances": []}}', False),
        ('{"mwan3": 3}', False),
        ("{}", False),
        ("[1]", False),
        ("no", False),
    ],
)
def test_what_procd_keeps(answer: str, is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ubus = tmp_path / "ubus"
    ubus.write_text(f"#!/bin/sh\necho '{answer}'\n")
    ubus.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert rival.supervised() is is_there


def test_offline_is_what_running_trackers_say(tmp_path: Path) -> None:
    for name, state in (("wan", "offline\n"), ("wan1", "online\n"), ("wan2", "offline\n")):
        (tmp_path / "mwan3track" / name).mkdir(parents=True)
        (tmp_path / "mwan3track" / name / "STATUS").write_text(state)
    (tmp_path / "mwan3track" / "wan3").mkdir()
    (tmp_path / "mwan3track" / "wan3" / "STATUS").write_bytes(b"\xff\xfe")  # as after a crash
    names = ("wan", "wan1", "wan3", "gone", "../mwan3track/wan2")
    running = [Process(1, "/usr/sbin/mwan3track", (name,)) for name in names]
    assert rival.offline(tmp_path, tuple(running)) == {"wan"}


def test_state_files(tmp_path: Path) -> None:
    (tmp_path / "mwan3/iface_state").mkdir(parents=True)
    (tmp_path / "mwan3/iface_state/wan").write_text("online")
    (tmp_path / "mwan3/other").write_text("")
    (tmp_path / "mwan3.lock").symlink_to("/nonexistent")
    found = rival.state_files(tmp_path)
    assert len(found) == 2
    for path in found:
        rival.remove_state(path)
        rival.remove_state(path)
    assert rival.state_files(tmp_path) == ()
    assert (tmp_path / "mwan3/other").exists()


def test_a_directory_with_more_than_files_stays(tmp_path: Path) -> None:
    (tmp_path / "mwan3/iface_state/deep").mkdir(parents=True)
    with pytest.raises(KernelError):
        rival.remove_state(str(tmp_path / "mwan3/iface_state"))


def test_procd_is_told_to_forget_the_service_and_no_stop_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ubus = tmp_path / "ubus"
    ubus.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> {tmp_path}/said\n')
    ubus.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    rival.release()
    assert (tmp_path / "said").read_text() == 'call|service|delete|{"name":"mwan3"}|'

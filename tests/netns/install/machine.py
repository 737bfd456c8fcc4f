"""A Debian with systemd, made of the machine that the tests run on: its files, with what is written on top of them in
memory; namespaces of its own for processes, mounts and control groups; and the network of a lab's router.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.lab import Lab

#: As a user has it who is root on a Debian.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = "/lib/systemd/systemd"
#: Seconds until systemd has to be up.
PATIENCE = 30.0

#: Everything is below the control group of the test's, so that systemd can have one that looks like the whole.
GROUPS = "set -e; mkdir -p {0}; mount -t cgroup2 cgroup2 {0}"
OUTER = GROUPS + """
mkdir {0}/{1}
echo $$ >{0}/{1}/cgroup.procs
umount {0}
exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child sh -c "$1" sh
"""
#: Of systemd's own units only the journal is left: nothing of the machine's is started or touched.
INNER = """
set -e
top={0}/machine
mkdir -p $top
mount --make-rprivate /
mount -t tmpfs tmpfs $top
mkdir $top/upper $top/work $top/root
mount -t overlay overlay -o lowerdir=/,upperdir=$top/upper,workdir=$top/work $top/root
cd $top/root
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
[ ! -e proc/sysrq-trigger ] || mount --bind /dev/null proc/sysrq-trigger
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch dev/$node
    mount --bind /dev/$node dev/$node
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s /proc/self/fd dev/fd
rm -rf etc/systemd/system
mkdir -p etc/systemd/system run/old
: >etc/fstab
for unit in lib/systemd/system/*.target.wants/*; do
    case $unit in
    */systemd-journald*) ;;
    *.target) ;;
    *) ln -sf /dev/null etc/systemd/system/${{unit##*/}} ;;
    esac
done
for unit in systemd-journald-audit.socket systemd-journal-flush.service systemd-remount-fs.service; do
    ln -sf /dev/null etc/systemd/system/$unit
done
printf '[Unit]\\nRequires=basic.target\\nAfter=basic.target\\n' >etc/systemd/system/test.target
pivot_root . run/old
umount -l /run/old
mount --make-rshared /
exec env -i container=other PATH={1} {2} --system --unit=test.target --log-target=null --show-status=no
"""
#: Takes away the group of one machine, in which nobody is any more, and those whose test has died.
SWEEP = GROUPS + """
for one in {0}/connbal-test-*; do
    [ "$one" = "{0}/{1}" ] || ! kill -0 "${{one##*-}}" 2>/dev/null || continue
    find "$one" -depth -type d -exec rmdir {{}} +
done
[ ! -d {0}/{1} ]
"""


class Machine:
    """One of them; ``lab``: whose router it is."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._group = f"connbal-test-{lab.prefix}-{os.getpid()}"
        inner = INNER.format(lab.tmp, SEARCH, SYSTEMD)
        self._log = lab.tmp / "machine.log"
        with self._log.open("wb") as log:
            self._process = lab.router.popen(
                ["unshare", "--mount", "sh", "-c", OUTER.format(lab.tmp / "groups", self._group), "sh", inner],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.pid = 0  #: systemd's own
        try:
            self._wait_for_systemd()
        except BaseException:
            self.close()
            raise

    def _wait_for_systemd(self) -> None:
        end = time.monotonic() + PATIENCE
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while time.monotonic() < end:
            assert self._process.poll() is None, f"no machine: {self._log.read_text()}"
            for pid in map(int, children.read_text().split()):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    self.pid = pid
                    if self.run("systemctl is-system-running", check=False).stdout in ("running\n", "degraded\n"):
                        return
            time.sleep(0.05)
        raise AssertionError(f"systemd does not start: {self._log.read_text()}")

    def path(self, name: str) -> Path:
        """Where a file of the machine's is to be found by the test."""
        return Path(f"/proc/{self.pid}/root", name.lstrip("/"))

    def run(
        self, script: str, *, cwd: str = "/", internet: bool = False, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell's words as root; with ``internet``, in the network of whoever runs the tests."""
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", *([] if internet else ["--net"])]
        argv = ["nsenter", "--target", str(self.pid), *spaces, "--root", "env", "-C", cwd, "sh", "-ec", script]
        done = subprocess.run(argv, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip
        assert not check or done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done

    def close(self) -> None:
        """End everything in it."""
        self._process.kill()
        self._process.wait()
        sweep = ["unshare", "--mount", "sh", "-c", SWEEP.format(self.lab.tmp / "groups", self._group)]
        end = time.monotonic() + 5
        while time.monotonic() < end and subprocess.run(sweep, capture_output=True, check=False).returncode:
            time.sleep(0.1)


def _environment() -> Mapping[str, str]:
    """What pip and apt-get have to be told here stays, and nothing of the tests' own."""
    ours = ("CONNBAL_", "VIRTUAL_ENV", "PYTHON", "PYENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PATH": SEARCH, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "PIP_VERBOSE": "1"}


@contextlib.contextmanager
def machine(lab: Lab) -> Iterator[Machine]:
    """One for as long as the block."""
    one = Machine(lab)
    try:
        yield one
    finally:
        one.close()

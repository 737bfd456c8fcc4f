"""A root directory that looks like a router's, with everything in it in namespaces of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.lab import openwrt, topology
from tests.lab.lab import Lab
from tests.lab.node import CommandFailed, LabError, end_group

TREE = Path(__file__).parents[2]
HERE = Path(__file__).parent
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
#: Programs of this machine that a router has too. busybox has an `ip` of its own, which is left out.
_PROGRAMS = ("ip", "ipset", "conntrack", "nft")
_XTABLES = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")
_DEVICES = ("null", "zero", "random", "urandom", "full")
#: Python packages that a router gets from OpenWrt's feed: taken from here.
_FEED = ("click", "pyroute2", "pr2modules", "typing_extensions")

# Makes the root in mount and process namespaces of its own, and starts process 1 there: a shell, which takes in
# orphans, and ends with the server. `$1` is the root, `$2` where this machine's Python is, if not in
# /usr, `$3` where its packages are.
_INIT = r"""
set -e
root=$1 python=$2
mount --bind /usr "$root/host/usr"
mount -o remount,bind,ro "$root/host/usr"
if [ -n "$python" ]; then
	mount --bind "$python" "$root$python"
	mount -o remount,bind,ro "$root$python"
fi
mount --bind "$3" "$root/host/site"
mount -o remount,bind,ro "$root/host/site"
for device in null zero random urandom full; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
exec chroot "$root" /bin/sh -c 'cd /; /usr/bin/python3 -E -s /lib/router/server.py & wait $!'
"""


def stage(root: Path) -> None:
    """Put all packages' files into a directory, as ``openwrt/stage`` does. Raises LabError."""
    env = {**os.environ, "PYTHON": sys.executable}
    argv = [str(TREE / "openwrt/stage"), str(root)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise LabError(f"openwrt/stage: {done.stderr}")


class Router:
    """The router of a lab, as a machine of its own: root directory, processes, and the lab's network.

    ``staged`` is what :func:`stage` made. ``network`` are interfaces that are up in the beginning; all, where none are
    given. ``last`` is a directory whose files are laid over all others: another program, with what it brings of a
    router's own. What runs in it ends with it, with the lab, and with this process.
    """

    def __init__(self, lab: Lab, staged: Path, network: Sequence[str] | None = None, last: Path | None = None) -> None:
        self.lab, self._staged, self._last = lab, staged, last
        self.root = lab.tmp / "root"
        self._network = list(lab.spec.sources) if network is None else list(network)
        self._unshare: subprocess.Popen[str] | None = None
        self._pid = 0

    # -- life

    def up(self) -> Router:
        """Build the root and start it; returns when programs in it are answered. Raises LabError."""
        shutil.copytree(self._staged, self.root, symlinks=True)
        self._make_root()
        if self._last is not None:
            shutil.copytree(self._last, self.root, symlinks=True, dirs_exist_ok=True)
        for name in set(self.lab.spec.sources) - set(self._network):
            self.lab.ifdown(name)
        base = "" if Path(sys.base_prefix).is_relative_to("/usr") else sys.base_prefix
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "/bin/sh", "-c",
                _INIT, "init", str(self.root), base, str(_site())]  # fmt: skip
        self._log = open(self.root / "tmp/log/server.log", "w")  # noqa: SIM115 - closed in close()
        self._unshare = self.lab.router.popen(argv, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "ready\n":
            raise LabError(f"the router did not start: {(self.root / 'tmp/log/server.log').read_text()}")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self._pid = int(children.read_text().split()[0])
        return self

    def processes(self) -> int:
        """Process id, as seen from outside, of its process 1; when that ends, all do."""
        return self._pid

    def close(self) -> None:
        """End everything in it. Its files are the lab's, and go with it."""
        if self._unshare is not None:
            end_group(self._unshare)
            self._log.close()
            self._unshare = None

    def __enter__(self) -> Router:
        return self.up()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- the root

    def _make_root(self) -> None:
        root = self.root
        shutil.copytree(HERE / "skeleton", root, symlinks=True, dirs_exist_ok=True)
        for name in ("dev", "proc", "sys", "root", "host/usr", "host/site", "etc/config", "etc/rc.d", "usr/sbin",
                     "usr/libexec/rpcd", "etc/hotplug.d/iface", "lib/netifd", "tmp/run", "tmp/log", "tmp/router",
                     "tmp/.uci", "tmp/lock"):  # fmt: skip
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "var").symlink_to("tmp")
        for file in (HERE / "machine").glob("*.py"):
            shutil.copy(file, root / "lib/router")
        for name in _DEVICES:
            (root / "dev" / name).touch()
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        (root / "etc/config/network").write_text(openwrt.network_config(self.lab.spec))
        (root / "lib/router/interfaces.json").write_text(json.dumps(self._interfaces()))
        self._make_programs()
        self._make_python()

    def _make_programs(self) -> None:
        """busybox for what a router has from it, links to this machine's for the rest."""
        root = self.root
        busybox = shutil.which("busybox")
        if busybox is None:
            raise LabError("the router needs busybox, linked statically: the package busybox-static")
        shutil.copy(busybox, root / "bin/busybox")
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout
        for name in listed.split():
            target = root / "bin" / name
            if name not in (*_PROGRAMS, "busybox") and not target.exists():
                target.symlink_to("busybox")
        for name in _PROGRAMS:
            path = shutil.which(name)
            if path is not None:
                (root / "usr/sbin" / name).symlink_to(_there(path))
        for name in _XTABLES:
            (root / "usr/sbin" / name).symlink_to(_there(openwrt.tool(name, self.lab.spec.xtables)))

    def _make_python(self) -> None:
        """The interpreter of this machine, with the router's own packages: a virtual environment in /usr."""
        root, base = self.root, Path(sys.base_prefix)
        for directory in Path("/usr/lib").glob("*-linux-gnu*"):
            for lib in ("lib", "usr/lib"):
                (root / lib / directory.name).symlink_to(f"/host{directory}")
        for name in ("lib64", "lib32", "usr/lib64"):
            if Path("/", name).exists():
                (root / name).symlink_to(f"/host/usr/{Path(name).name}")
        (root / "usr/local").symlink_to("/host/usr/local")
        shutil.copy("/etc/ld.so.cache", root / "etc/ld.so.cache")
        if not base.is_relative_to("/usr"):
            (root / str(base)[1:]).mkdir(parents=True, exist_ok=True)
        home = _there(str(base / "bin")) if base.is_relative_to("/usr") else str(base / "bin")
        (root / "usr/pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        (root / "usr/bin/python3").symlink_to(f"{home}/{version}")
        (root / "usr/bin" / version).symlink_to(f"{home}/{version}")
        site = root / "usr/lib" / version / "site-packages"
        for entry in _site().iterdir():
            if entry.name.partition(".")[0].partition("-")[0] in _FEED:
                (site / entry.name).symlink_to(f"/host/site/{entry.name}")

    def _interfaces(self) -> dict[str, Any]:
        """What its netifd knows: how each interface is when up and when down, and how the kernel gets there."""
        spec = self.lab.spec
        ups = dict.fromkeys(spec.sources, True)
        listed = openwrt.interfaces(spec, ups)
        downs = {entry["interface"]: entry for entry in openwrt.interfaces(spec, dict.fromkeys(ups, False))}
        lines = {}
        for source in spec.links.values():
            down = [*topology.default_routes(source, "del"), *topology.addresses(source, "del")]
            up = [*topology.addresses(source), *topology.default_routes(source)]
            device = source.device
            lines[source.name] = ([f"link set {device} up", *up], [*down, f"link set {device} down"])
        known = {}
        for entry in listed:
            name = entry["interface"]
            up_lines, down_lines = lines.get(name, ([], []))
            owner = next((one.name for one in spec.links.values() if name in (one.name, one.name6)), name)
            known[name] = {
                "when_up": entry, "when_down": downs[name], "lines_up": up_lines, "lines_down": down_lines,
                "up": owner in self._network or owner not in spec.links,
            }  # fmt: skip
        return known

    # -- programs

    def popen(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a program in the router, as root's login shell would."""
        enter = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--net", "--root", "--wd=/", "--"]
        options.setdefault("stdin", subprocess.DEVNULL)
        clean = {"PATH": f"{_PATH}:{os.environ.get('PATH', os.defpath)}", "HOME": "/root", **(env or {})}
        inside = ["/bin/env", f"PATH={_PATH}", *argv]
        return subprocess.Popen([*enter, *inside], env=clean, text=True, start_new_session=True, **options)

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end and that of its output. Raises CommandFailed as the lab's own ``run`` does."""
        process = self.popen(argv, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            end_group(process)
            raise CommandFailed("router", argv, None, _text(late.stdout), _text(late.stderr)) from None
        if check and process.returncode:
            raise CommandFailed("router", argv, process.returncode, out, err)
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def sh(self, script: str, **options: Any) -> str:
        """Run a script with the router's shell and return its output."""
        return self.run(["/bin/sh", "-ec", script], **options).stdout

    def ubus(self, name: str, method: str, args: Mapping[str, Any] | None = None) -> Any:
        """``ubus call``; the answer, None where there is none. Raises CommandFailed."""
        out = self.run(["ubus", "call", name, method, json.dumps(args or {})], timeout=40).stdout
        return json.loads(out) if out else None

    # -- files

    def path(self, name: str) -> Path:
        """A file of the router, by its path there, seen from outside. /var is followed."""
        return self.root / ("tmp" + name[len("/var") :] if name.startswith("/var/") else name[1:])

    def read(self, name: str) -> str:
        """The text of a file, without the white space around it; "" where there is none."""
        try:
            return self.path(name).read_text().strip()
        except FileNotFoundError:
            return ""

    def configure(self, text: str) -> None:
        """Write /etc/config/mwan3, whole or not at all."""
        scratch = self.path("/etc/config/mwan3.new")
        scratch.write_text(text)
        scratch.rename(self.path("/etc/config/mwan3"))

    # -- waiting

    def settle(self, seconds: float = 30.0) -> None:
        """Wait until netifd has nothing to do. Raises LabError."""
        self.wait(lambda: bool(self.ubus("router", "idle")["idle"]), "netifd to have done its work", seconds)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Wait until a condition holds. Raises LabError, with the router's own logs, where it does not."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise LabError(f"waited {seconds:g} s for {what}\n{self.logs()}")
            time.sleep(0.05)

    def logs(self) -> str:
        """The ends of its logs."""
        parts = []
        for file in sorted((self.root / "tmp/log").iterdir()):
            with contextlib.suppress(OSError):
                parts.append(f"--- {file.name}\n{file.read_text(errors='replace')[-2000:]}")
        return "\n".join(parts)


def _there(path: str) -> str:
    """Where a program of this machine is in a router. Links are followed: the last name chooses what xtables does."""
    real = str(Path(path).resolve())
    return f"/host{real}" if real.startswith("/usr/") else real


def _site() -> Path:
    """The directory that click is in."""
    import click

    return Path(click.__file__).parents[1]


def _text(data: str | bytes | None) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else data or ""

"""Scripts of ``files/`` in busybox's shell, with everything they call or look at below a directory of the test's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

FILES = Path(__file__).parents[3] / "files"
BUSYBOX = shutil.which("busybox")
PID = 4711

#: Writes down how it was called, and which descriptors it has, and waits where it is told to.
STAND_IN = """#!{sh}
echo "$(basename "$0") $*" >>"{root}/calls"
ls /proc/$$/fd >"{root}/descriptors"
while [ -e "{root}/wait" ]; do sleep 0.05; done
exit "$(cat "{root}/exit-$(basename "$0")" 2>/dev/null || echo 0)"
"""
#: The parts of rc.common and procd.sh that matter, in as few words as possible: a service is named after the resolved
#: name of its script, stop_service comes before procd is told to end what runs, and reload is reload_service.
RC_COMMON = """
initscript=$1; action=$2; shift 2
start() {{ start_service "$@"; service_triggers; }}
stop() {{ stop_service "$@"; procd_kill "$(basename "$initscript")"; }}
reload() {{ reload_service "$@"; }}
restart() {{ stop; start; }}
boot() {{ start "$@"; }}
enable() {{ ln -sf "../init.d/$(basename "$initscript")" "{root}/etc/rc.d/S$START$(basename "$initscript")"; }}
disable() {{ rm -f "{root}/etc/rc.d/S"??"$(basename "$initscript")"; }}
enabled() {{ [ -L "{root}/etc/rc.d/S$START$(basename "$initscript")" ]; }}
say() {{ echo "$*" >>"{root}/procd"; }}
procd_open_instance() {{ say open "$@"; }}
procd_set_param() {{ say "$@"; }}
procd_close_instance() {{ say close; }}
procd_add_reload_trigger() {{ say trigger "$@"; }}
procd_kill() {{ say kill "$@"; }}
procd_running() {{ [ -e "{root}/procd-runs-$1" ]; }}
running() {{ service_running "$@"; }}
. "$initscript"
"$action" "$@"
"""


class Router:
    """A directory with the scripts, in which ``/usr/bin/connbal`` only writes down how it is called."""

    def __init__(self, root: Path) -> None:
        assert BUSYBOX is not None, "no busybox: apt-get install busybox-static"
        self.root = root
        for name in ("proc", "usr/bin", "usr/sbin", "usr/libexec", "usr/lib/connbal", "etc/init.d", "etc/rc.d",
                     "etc/config", "var/run/connbal"):  # fmt: skip
            (root / name).mkdir(parents=True)
        self.stand_in("usr/bin/connbal")
        self.install("usr/sbin/mwan3")
        # Processes that they start are real ones.
        for name in ("usr/libexec/connbal-later", "usr/lib/connbal/turns.sh"):
            self.install(name, proc=False)
        (root / "rc.common").write_text(RC_COMMON.format(root=root))

    def stand_in(self, name: str) -> None:
        self._write(name, STAND_IN.format(sh=f"{BUSYBOX} sh", root=self.root))

    def install(self, name: str, *, proc: bool = True) -> None:
        """A script of files/, its paths below the root (``proc``: /proc, too), and run by busybox's shell."""
        text = (FILES / name).read_text("utf-8").split("\n", 1)
        places = ("/var/run", "/usr/bin", "/usr/sbin", "/usr/libexec", "/etc/init.d", "/etc/rc.d", "/etc/config")
        for place in (*places, "/proc") if proc else places:
            text[1] = text[1].replace(place, f"{self.root}{place}")
        shebang = f"#!{BUSYBOX} sh" + (f" {self.root}/rc.common" if text[0].endswith("rc.common") else "")
        self._write(name, f"{shebang}\n{text[1]}")

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.write_text(text)
        path.chmod(0o755)

    def daemon(self) -> None:
        """What there is while a daemon runs. Nobody reads its pipe."""
        own = self.root / "var/run/connbal"
        os.mkfifo(own / "events")
        (own / "daemon.pid").write_text(f"{PID}\n")
        (self.root / f"proc/{PID}").mkdir()
        (self.root / f"proc/{PID}/comm").write_text("connbald\n")

    def run(self, name: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"]}
        text = (self.root / name).read_text("utf-8").split("\n", 1)[0]
        # The kernel hands over all that follows the interpreter's name as one argument: busybox's shell is named here.
        argv = [*text.removeprefix("#!").split(), str(self.root / name), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=check)

    def lines(self, name: str) -> list[str]:
        """What stand-ins have written down."""
        path = self.root / name
        return path.read_text().splitlines() if path.exists() else []

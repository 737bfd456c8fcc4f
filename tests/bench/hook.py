"""The hotplug hook and ``mwan3 restart``, as netifd calls them, on a machine that looks like a router.

netifd handles one event after the other and waits for the hook, and for ``mwan3 restart`` inside its set-up of an
interface. Both hand over to the daemon. What they cost is compared with what the router's shell costs by itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.results import Figure, Floor
from tests.bench.scene import Options
from tests.lab import Lab
from tests.router.configs import balanced
from tests.router.router import Router, stage

FLOOR = "sh -c : of the router"
#: Times that the floor takes, at most.
TIMES = 20.0
_HOOK = "/etc/hotplug.d/iface/15-connbal"
_JOBS = {
    FLOOR: ["/bin/sh", "-c", ":"],
    "hotplug hook": ["/bin/sh", "-c", f". {_HOOK}"],
    "mwan3 restart": ["/usr/sbin/mwan3", "restart"],
    "mwan3 ifup": ["/usr/sbin/mwan3", "ifup", "wan1"],
}
# Runs in the router, so that entering it is in nobody's time.
_TIMER = """
import json, os, sys, time
jobs, count = json.loads(sys.argv[1]), int(sys.argv[2])
env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ACTION": "ifup", "INTERFACE": "wan1", "DEVICE": "e-wan1"}
taken = {name: [] for name in jobs}
for turn in range(count + 1):
    for name, argv in jobs.items():
        begin = time.perf_counter()
        process = os.posix_spawn(argv[0], argv, env)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        took = time.perf_counter() - begin
        if code:
            sys.exit(f"{name} ended with {code}")
        if turn:
            taken[name].append(took)
        time.sleep(0.05)
print(json.dumps(taken))
"""


def hook(options: Options) -> Iterator[Figure | str]:
    """What netifd waits for."""
    with (
        tempfile.TemporaryDirectory(prefix="connbal-bench-") as scratch,
        Lab(("wan", "wan1"), xtables=options.xtables) as lab,
    ):
        staged = Path(scratch, "root")
        stage(staged)
        with Router(lab, staged) as router:
            router.configure(balanced({"wan": True, "wan1": True}))
            router.run(["/etc/init.d/connbal", "enable"])
            router.run(["/etc/init.d/connbal", "start"])
            router.wait(lambda: router.read("/var/run/mwan3track/wan1/STATUS") == "online", "wan1 to be online")
            argv = ["/usr/bin/python3", "-c", _TIMER, json.dumps(_JOBS), str(options.effort.hooks)]
            taken = json.loads(router.run(argv, timeout=120).stdout)
    floor = Floor(FLOOR, tuple(taken.pop(FLOOR)))
    for name, samples in taken.items():
        yield Figure(name, tuple(samples), floor=floor, times=TIMES)

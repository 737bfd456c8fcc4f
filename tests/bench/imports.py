"""What is imported, and what that costs: memory of the daemon, beside what its modules take in a bare Python, and the
time of a cold ``connbal apply`` beside ``import pyroute2``.

What the daemon imports, a daemon says itself: one is started with ``-X importtime``, and used until every source is
online. ``python -m tests.bench.imports`` measures this part alone.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tests.bench import configuration, proc, programs
from tests.bench.results import Figure, Floor
from tests.bench.scene import Options
from tests.lab import Lab
from tests.netns.daemon.service import Service

#: Times the memory of what it imports that the daemon may have; times the import of pyroute2 that an apply may take.
MEMORY_TIMES, APPLY_TIMES = 1.3, 2.0
#: The scales of memory, in interfaces, and of an apply, in interfaces and rules.
INTERFACES, HOSTS, APPLIED, RULES = (20, 60), 4, 5, 10
#: What bare Pythons import.
ALL, LIBRARIES, WITH_PYROUTE2 = (
    "a Python with the daemon's modules", "a Python with the daemon's libraries",
    "a Python with the daemon's libraries and pyroute2",
)  # fmt: skip
_PROBING = (("interval", "1"), ("timeout", "1"), ("down", "3"), ("up", "3"))
_APPLY = "connbal apply in a fresh router"
#: What was tried and is not there, such as sitecustomize, is told like what was imported.
_BARE = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError:
        pass
print("ready", flush=True)
sys.stdin.read()
"""


class _Telling(Service):
    """A daemon that writes into its log what it imports."""

    program = ("-X", "importtime", "-m", "connbal.cli.main")


def imports(options: Options) -> Iterator[Figure | str]:
    """Memory and time of what is imported."""
    yield from _memory(options)
    yield from _apply(options)


def _memory(options: Options) -> Iterator[Figure | str]:
    short = options.effort.repetitions == 1
    counts = (2,) if short else INTERFACES
    with contextlib.ExitStack() as stack:
        labs = {count: _lab(stack, count, options) for count in counts}
        modules = modules_of(labs[counts[0]])
        libraries = [name for name in modules if name.partition(".")[0] != "connbal"]
        yield f"modules that the daemon imports: {len(modules)}, of which {len(modules) - len(libraries)} are its own"
        sets = {ALL: modules, LIBRARIES: libraries, WITH_PYROUTE2: [*libraries, "pyroute2"]}
        pss: dict[str, list[float]] = {name: [] for name in sets}
        private: dict[str, list[float]] = {name: [] for name in sets}
        daemons: dict[int, list[proc.Memory]] = {count: [] for count in counts}
        for _ in range(1 if short else 3):
            for name, wanted in sets.items():
                with bare(wanted) as pid:
                    found = proc.parts_of_memory(pid)
                pss[name].append(found.divided)
                private[name].append(found.private)
            for count, lab in labs.items():
                daemons[count].append(_daemon(lab, 0.5 if short else 5.0))
    for kind, floors in (("PSS", pss), ("private", private)):
        for name, samples in floors.items():
            yield Figure(f"{kind} memory of {name}", tuple(samples), unit="MB")
        for count, found_ones in daemons.items():
            samples = tuple(one.divided if kind == "PSS" else one.private for one in found_ones)
            for name in sets:
                yield Figure(
                    f"{kind} memory of the daemon, beside {name}", samples, unit="MB", scale={"interfaces": count},
                    floor=Floor(name, tuple(floors[name])), times=MEMORY_TIMES if name == ALL else None, by="median",
                )  # fmt: skip


def _lab(stack: contextlib.ExitStack, count: int, options: Options) -> Lab:
    lab = stack.enter_context(Lab(configuration.sources(count), xtables=options.xtables))
    text = configuration.configuration(lab.spec.sources, RULES, probing=_PROBING, hosts=HOSTS)
    (lab.config_dir / "mwan3").write_text(text)
    return lab


def _used(service: Service) -> None:
    """Wait until every source is online, and every part has been used."""
    service.wait_for(service.lab.spec.sources, "online")
    service.hotplug("ifupdate", service.lab.spec.sources[0])
    service.settled()


def modules_of(lab: Lab) -> list[str]:
    """What a daemon imports by and by, in its order."""
    with _Telling(lab) as service:
        _used(service)
        lines = [line for line in service.log.read_text().splitlines() if line.startswith("import time:")]
        service.stop()
    service.log.unlink()
    names = [line.rpartition("|")[2].strip() for line in lines]
    return [name for name in names if name != "imported package"]


def _daemon(lab: Lab, seconds: float) -> proc.Memory:
    with Service(lab) as service:
        _used(service)
        time.sleep(seconds)
        found = proc.parts_of_memory(service.pid)
        service.stop()
    return found


@contextlib.contextmanager
def bare(modules: Sequence[str]) -> Iterator[int]:
    """A process that has imported modules and does nothing: its process id."""
    argv = [sys.executable, "-c", _BARE, *modules]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()


def _apply(options: Options) -> Iterator[Figure]:
    with Lab(configuration.sources(APPLIED), xtables=options.xtables) as lab:
        (lab.config_dir / "mwan3").write_text(configuration.configuration(lab.spec.sources, RULES))
        floors = programs.Floors(lab, (programs.PYROUTE2, programs.PASS))
        env: dict[str, Any] = programs.environment(lab)
        service = Service(lab)
        samples: list[float] = []
        for turn in range(options.effort.repetitions + 1):
            floors.turn()
            took = programs.timed(lab.router, service.argv("apply"), env)
            if turn:  # the first compiles
                samples.append(took)
            programs.timed(lab.router, service.argv("stop"), env)
    scale = {"interfaces": APPLIED, "rules": RULES}
    yield Figure(_APPLY, tuple(samples), scale=scale, floor=floors.floor(programs.PYROUTE2), times=APPLY_TIMES)


if __name__ == "__main__":
    from tests.bench.__main__ import main

    sys.exit(main(["--only", "imports", *sys.argv[1:]]))

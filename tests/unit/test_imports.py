"""The rooms of the house: which module may import which, what a command must not load, how large a module may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import connbal

ROOT = Path(connbal.__file__).parent

#: From the ground up: a module imports from its own room and from those before it.
ROOMS = (
    ("errors", "frozen", "kept", "locks"),
    ("model",),
    ("uci",),
    ("plan",),
    ("kernel",),
    ("pending",),
    ("refusal", "reconcile"),
    ("track",),
    ("cli",),
    ("rpcd",),
)
#: Rooms of values and functions only; a name stands for all modules that begin so.
PURE = (
    "kept", "model", "plan", "rpcd.arguments", "rpcd.methods", "rpcd.mwan3", "rpcd.words", "uci.buffer", "uci.declared",
    "uci.decode", "uci.meaning", "uci.edit", "uci.exchange", "uci.luci",
    "uci.operations", "uci.package", "uci.places", "uci.placing", "uci.scenario", "uci.schema", "uci.show",
    "uci.sites", "uci.text", "uci.values", "uci.verify", "cli.differences", "cli.exposition",
    "kernel.copies", "kernel.facts", "kernel.gateways", "kernel.ipset_listing", "kernel.rtnl", "pending.record",
    "track.applied", "track.board", "track.dampening", "track.diagnosis",
    "track.evidence", "track.health", "track.pace", "track.probes.dnswire", "track.quality", "track.repairs",
    "track.report", "track.score",
)  # fmt: skip
#: What has no effects and asks the world nothing: all that they may import.
HARMLESS = {
    "__future__", "bisect", "collections", "contextlib", "dataclasses", "difflib", "enum", "fractions", "functools",
    "hashlib", "ipaddress", "itertools", "json", "math", "re", "struct", "typing",
}  # fmt: skip
#: Modules of other kinds of which they use types, numbers and functions without effects.
USED = {f"connbal.{name}" for name in ("errors", "frozen", "kernel.api", "kernel.messages", "kernel.netlink",
                                       "kernel.ubus", "track.api")}  # fmt: skip
_NUMBERS = ("model.terms", "kernel.ipset_listing", "kernel.rtnl", "track.probes.dnswire")
#: Modules that pure rooms may import of which only numbers, and what turns addresses into text, are used.
CONSTANTS = {f"connbal.{name}": {"socket"} for name in _NUMBERS}
#: What a module says of itself that has no effects.
SAYS_PURE = re.compile(r"\bPure\b[.:;]|[Ee]verything here is pure")
#: Functions that need no import and have effects, or that make code of text.
BUILT_IN = {"print", "open", "input", "breakpoint", "exec", "eval", "compile", "__import__"}

#: Lines of a module; one with more has to say why, after the word LONG.
LINES = 400
LONG = re.compile(r"^Long, because [^.]{20,}\.", re.MULTILINE)


def modules() -> dict[str, Path]:
    """Every module under connbal/ by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("connbal", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The modules that ``name`` imports, anywhere in it, for types too."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            module = node.module or ""
            yield module
            yield from (dotted for alias in node.names if (dotted := f"{module}.{alias.name}") in MODULES)


def room(name: str) -> int | None:
    """The floor a module is on; None for connbal itself."""
    parts = name.split(".")
    if parts == ["connbal"]:
        return None
    found = [floor for floor, names in enumerate(ROOMS) if parts[1] in names]
    assert found, f"{name} is in no room that the design knows"
    return found[0]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_upwards(name: str) -> None:
    own = room(name)
    for other in imports(name):
        if other.split(".")[0] == "connbal" and own is not None:
            floor = room(other)
            assert floor is None or floor <= own, f"{name} imports {other}"


PURE_MODULES = [name for name in MODULES if name.startswith(tuple(f"connbal.{one}" for one in PURE))]


def test_every_name_in_the_lists_is_a_module() -> None:
    """One that is no more would be held by nothing, and so would what took its place."""
    for one in (*PURE, *(name for names in ROOMS for name in names)):
        assert [name for name in MODULES if name.startswith(f"connbal.{one}")], one
    assert CONSTANTS.keys() <= set(PURE_MODULES)
    assert MODULES.keys() >= USED


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse(MODULES[name].read_text())) or ""


@pytest.mark.parametrize("name", PURE_MODULES)
def test_pure_rooms_have_no_effects(name: str) -> None:
    outside = {other.split(".")[0] for other in imports(name)} - {"connbal"}
    assert outside - HARMLESS <= CONSTANTS.get(name, set())
    ours = {other for other in imports(name) if other in MODULES and MODULES[other].name != "__init__.py"}
    assert ours <= {*PURE_MODULES, *USED}
    calls = [node.func for node in ast.walk(ast.parse(MODULES[name].read_text())) if isinstance(node, ast.Call)]
    assert not {call.id for call in calls if isinstance(call, ast.Name)} & BUILT_IN


def test_whoever_says_that_it_is_pure_is_held_to_it() -> None:
    assert {name for name in MODULES if SAYS_PURE.search(docstring(name))} - set(PURE_MODULES) == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_large_module_says_why(name: str) -> None:
    count = len(MODULES[name].read_text().splitlines())
    why = 'split it, or write "Long, because ..." into its docstring'
    assert count <= LINES or LONG.search(docstring(name)), f"{name} has {count} lines: {why}"


def test_a_reason_is_recognised() -> None:
    assert LONG.search("What it is.\n\nLong, because the table would be torn apart otherwise.")
    assert not LONG.search("Long, because.")
    assert not LONG.search("It takes long, because it is slow and has much to do.")


@pytest.mark.parametrize("name", [name for name in MODULES if ".plan" in name or ".model" in name])
def test_pure_rooms_know_nobody_with_effects(name: str) -> None:
    assert not [other for other in imports(name) if other.startswith(("connbal.kernel", "connbal.uci"))]


def loaded_by(module: str) -> set[str]:
    """The top-level modules that are loaded once ``module`` is."""
    program = f"import {module}, sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_loads_nothing_slow() -> None:
    """The import of pyroute2 takes longer than all else that most commands do."""
    assert not loaded_by("connbal.cli.main") & {"pyroute2", "icmplib", "asyncio"}


def test_the_plan_loads_nothing_slow() -> None:
    assert not loaded_by("connbal.plan.build") & {"pyroute2", "icmplib", "asyncio", "click", "subprocess"}

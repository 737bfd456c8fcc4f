"""The packages for OpenWrt: what they need of Python's split library and of iptables, what they bring and replace."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
OPENWRT = TREE / "openwrt"

#: What OpenWrt takes out of python3-light: package, and the modules that only it has (lang/python/python3/files/ of the
#: packages feed). Modules that no longer exist in newer versions of Python are in it, too.
SPLIT = {
    "python3-asyncio": {"asyncio"},
    "python3-cgi": {"cgi", "cgitb"},
    "python3-codecs": {"unicodedata", "_codecs_cn", "_codecs_hk", "_codecs_iso2022", "_codecs_jp", "_codecs_kr"},
    "python3-ctypes": {"ctypes", "_ctypes"},
    "python3-dbm": {"dbm", "_dbm", "_gdbm"},
    "python3-decimal": {"decimal", "_decimal"},
    "python3-distutils": {"distutils"},
    "python3-email": {"email"},
    "python3-lib2to3": {"lib2to3"},
    "python3-logging": {"logging"},
    "python3-lzma": {"lzma", "_lzma"},
    "python3-multiprocessing": {"multiprocessing", "_multiprocessing"},
    "python3-ncurses": {"curses", "_curses", "_curses_panel"},
    "python3-openssl": {"_hashlib", "_ssl"},
    "python3-pydoc": {"pydoc", "pydoc_data", "doctest"},
    "python3-readline": {"readline"},
    "python3-sqlite3": {"sqlite3", "_sqlite3"},
    "python3-unittest": {"unittest"},
    "python3-urllib": {"urllib"},
    "python3-uuid": {"uuid", "_uuid"},
    "python3-venv": {"venv", "ensurepip"},
    "python3-xml": {"xml", "xmlrpc", "pyexpat", "_elementtree"},
}
#: Packages that bring others of them: python3-urllib depends on python3-email.
BRINGS = {"python3-urllib": {"python3-email"}}
#: Needed by some versions only: Python up to 3.12 imports urllib with pathlib, newer versions of click import uuid.
VERSIONS_DIFFER = {"python3-email", "python3-urllib", "python3-uuid"}

#: iptables' matches and targets that connbal writes, and the package with the extension; "" is what iptables itself,
#: or ipset for `set`, brings.
EXTENSIONS = {
    "CONNMARK": "iptables-mod-conntrack-extra",
    "LOG": "",
    "MARK": "",
    "RETURN": "",
    "SET": "kmod-ipt-ipset",
    "bpf": "iptables-mod-filter",
    "comment": "",
    "hl": "iptables-mod-ipopt",
    "icmp6": "",
    "mac": "",
    "mark": "",
    "multiport": "",
    "owner": "iptables-mod-extra",
    "set": "kmod-ipt-ipset",
    "statistic": "iptables-mod-ipopt",
}
#: Used by the command `mwan3 use` rather than by a plan.
USED_ELSEWHERE = {"owner"}

# Runs in an interpreter of its own: imports modules, with some hidden as if their package were not installed.
_PROBE = """
import importlib, json, sys
hidden, wanted, tls, tree = json.loads(sys.argv[1])
sys.path.insert(0, tree)
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ImportError(f"hidden: {name}", name=name)
sys.meta_path.insert(0, Hide())
for name in hidden:
    sys.modules.pop(name, None)
failed = {}
for name in wanted:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
if tls and not failed:
    import ssl
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="www.google.com")
    except (ImportError, LookupError, ValueError) as error:
        failed["server_hostname"] = str(error)
print(json.dumps(failed))
"""


def control(package: str) -> dict[str, str]:
    """What a package's Makefile says of it."""
    directory = OPENWRT / package
    argv = ["make", "-s", "-C", str(directory), "control", f"TOPDIR={OPENWRT / 'stage.d'}", "STAGE_WORK=/nonexistent"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def depends(package: str) -> set[str]:
    """The packages that it depends on, whatever the condition."""
    return {word.lstrip("+@").rpartition(":")[2] for word in control(package)["Depends"].split()}


def installed(needs: set[str]) -> set[str]:
    """Of the split packages, those that come with ``needs``."""
    return {one for need in needs for one in {need, *BRINGS.get(need, ())}} & set(SPLIT)


def imported() -> list[str]:
    """connbal's modules, and every module of others that they import anywhere, inside functions too."""
    found: set[str] = set()
    for file in sorted((TREE / "connbal").rglob("*.py")):
        parts = ("connbal", *file.relative_to(TREE / "connbal").with_suffix("").parts)
        found.add(".".join(parts).removesuffix(".__init__"))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module)
    # What pyroute2 needs is its own package's affair, and libuci's binding is no Python.
    return sorted(name for name in found if name.partition(".")[0] not in ("pyroute2", "uci"))


def failures(missing: set[str], wanted: list[str], tls: bool = False) -> dict[str, str]:
    """What cannot be imported where the split packages ``missing`` are."""
    hidden = sorted(module for package in missing for module in SPLIT[package])
    argv = [sys.executable, "-I", "-c", _PROBE, json.dumps([hidden, wanted, tls, str(TREE)])]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60, cwd=TREE)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_connbal_runs_on_the_parts_of_python_that_its_package_depends_on() -> None:
    """Contract: the standard library is split into packages."""
    assert failures(set(SPLIT) - installed(depends("connbal")), imported(), tls=True) == {}


@pytest.mark.parametrize("package", sorted(installed(depends("connbal")) - VERSIONS_DIFFER))
def test_connbal_needs_each_part_of_python_that_its_package_depends_on(package: str) -> None:
    """An unneeded part is room on a router's flash."""
    assert failures({package}, imported(), tls=True)


def test_icmplib_runs_on_the_parts_of_python_that_its_package_depends_on() -> None:
    """Contract: python3-icmplib is ours to package."""
    assert failures(set(SPLIT) - installed(depends("python3-icmplib")), ["icmplib"]) == {}


def test_each_match_and_target_of_iptables_has_its_package() -> None:
    """Contract: iptables' extensions and kernel modules are packages."""
    source = (TREE / "connbal/plan/iptables.py").read_text()
    used = set(re.findall(r'"-(?:m|j)", "([A-Za-z0-9]+)"', source)) | USED_ELSEWHERE
    assert used == set(EXTENSIONS)
    assert {EXTENSIONS[name] for name in used} - {""} <= depends("connbal")
    assert {"iptables", "ip6tables", "ipset", "kmod-nf-conntrack-netlink"} <= depends("connbal")


def test_connbal_takes_the_place_of_mwan3() -> None:
    """Contract: what depends on mwan3 is content with connbal, and both cannot be installed at once."""
    said = control("connbal")
    assert (said["Provides"], said["Conflicts"], said["Architecture"]) == ("mwan3", "mwan3", "all")


@pytest.mark.parametrize("makefile", sorted(OPENWRT.glob("*/Makefile")), ids=lambda file: file.parent.name)
def test_python_packages_include_the_feeds_files_in_order(makefile: Path) -> None:
    """Contract: pypi.mk before package.mk, python3-package.mk after it."""
    included = re.findall(r"^include .*/([a-z0-9-]+\.mk)$", makefile.read_text(), re.MULTILINE)
    python = ["rules.mk", "pypi.mk", "package.mk", "python3-package.mk"]
    assert included in (python, ["rules.mk", "luci.mk"])


def test_versions_of_the_packages_are_the_programs() -> None:
    """One version, whoever says it."""
    import connbal

    for makefile in OPENWRT.glob("*/Makefile"):
        version = re.search(r"^PKG_VERSION:=(.*)$", makefile.read_text(), re.MULTILINE)
        assert version
        if "connbal" in makefile.parent.name:
            assert version[1] == connbal.__version__

"""The documentation says what is so: its commands run, its configurations decode, its tables are those of the code.

Fenced blocks carry their test after the language:

- ``uci example=NAME``: a whole configuration that decodes without a finding.
- ``uci broken=NAME``: one that has errors.
- ``console run`` or ``console run=NAME``: run with NAME's configuration, or with none; the output must be as shown.
- ``console lab=NAME``: the same in the router of a lab, with NAME's configuration applied.
- ``console install``: run on a machine with systemd (tests/netns/install).
- ``console``: only looked at: commands and options of connbal must exist.

In an output, a line ``...`` stands for any lines. With ``CONNBAL_DOCS=accept`` in the environment, tables and outputs
without ``...`` are written as they are now.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from connbal import __version__
from connbal.cli.main import cli
from connbal.model.config import Config, WeightMode
from connbal.plan.build import plan
from connbal.plan.shares import percents, shares
from connbal.uci.decode import decode
from connbal.uci.schema import SECTIONS, Cost, Kind, OptionSpec
from connbal.uci.text import parse
from connbal.uci.values import expected
from tests.fakes.build import machine
from tests.lab import Lab

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "openwrt").glob("*.md"))]
CONFIGURATION = ROOT / "docs/configuration.md"
EXAMPLES_AS_FILES = ROOT / "docs/examples.md"
ACCEPT = os.environ.get("CONNBAL_DOCS") == "accept"

Case = tuple[str, ...]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_document = pytest.mark.parametrize("path", DOCS, ids=name_of)


# --- blocks -------------------------------------------------------------------------------------------------------

_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. ``test``: ``run``, ``lab``, ``example``, ``broken`` or empty; ``name``: what follows ``=``."""

    path: Path
    language: str
    test: str
    name: str
    text: str

    def __str__(self) -> str:
        return "-".join(filter(None, (name_of(self.path), self.test, self.name)))

    def steps(self) -> list[tuple[str, list[str]]]:
        """Commands (lines that begin with ``$``) and the output shown for each."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                assert found, f"{self}: output before any command"
                found[-1][1].append(line)
        return found


def blocks(language: str, *tests: str) -> list[Block]:
    """The blocks of a language in all documents; only those of ``tests`` where given."""
    found = []
    for path in DOCS:
        for match in _BLOCK.finditer(path.read_text("utf-8")):
            test, _, name = match[2].strip().partition("=")
            if match[1] == language and (not tests or test in tests):
                found.append(Block(path, language, test, name, match[3]))
    return found


def configuration(name: str) -> str:
    """The configuration that a block calls ``name``."""
    found = [block.text for block in blocks("uci", "example", "broken") if block.name == name]
    assert len(found) == 1, f"{len(found)} configurations are called {name}"
    return found[0]


def decoded(name: str) -> Config:
    result = decode(parse(configuration(name).encode(), "mwan3"))
    assert not result.findings
    return result.config


def accept(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1, f"{name_of(path)}: this stands there {text.count(old)} times:\n{old}"
    path.write_text(text.replace(old, new), "utf-8")


def follow(block: Block, run: Callable[[str], str]) -> None:
    """Run a block's commands and compare what they print with what is shown."""
    shown, seen = block.text, ""
    for command, output in block.steps():
        printed = [line.rstrip() for line in run(command).splitlines()]
        seen += "".join(f"{line}\n" for line in (f"$ {command}", *(output if "..." in output else printed)))
        if not ACCEPT or "..." in output:
            told = "\n".join(["shown:", *output, "printed:", *printed])
            assert alike(output, printed), f"{block}: $ {command}\n{told}\n(CONNBAL_DOCS=accept writes what is printed)"
    if ACCEPT and seen != shown:
        accept(block.path, f"\n{shown}```", f"\n{seen}```")


def alike(shown: Sequence[str], printed: Sequence[str]) -> bool:
    pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


# --- commands -----------------------------------------------------------------------------------------------------


def environment(config_dir: Path, run_dir: Path) -> dict[str, str]:
    return {
        "CONNBAL_CONFIG_DIR": str(config_dir), "CONNBAL_RUN_DIR": str(run_dir), "COLUMNS": "80",
        "CONNBAL_UCI": "embedded",
    }  # fmt: skip


def program_path(path: str) -> str:
    """PATH with a ``connbal`` of this checkout in front."""
    return f"{Path(sys.executable).parent}:{path}"


@pytest.mark.parametrize("block", blocks("console", "run"), ids=str)
def test_commands_print_what_is_shown(block: Block, tmp_path: Path) -> None:
    config_dir = tmp_path / "config"
    config_dir.mkdir()
    if block.name:
        (config_dir / "mwan3").write_text(configuration(block.name))
    own = environment(config_dir, tmp_path / "run")
    own["PATH"] = program_path(os.environ.get("PATH", os.defpath))

    def run(command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], env={**os.environ, **own}, cwd=tmp_path, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip
        return done.stdout.replace(str(config_dir), "/etc/config")

    follow(block, run)


@pytest.mark.netns
@pytest.mark.parametrize("block", blocks("console", "lab"), ids=str)
def test_commands_do_so_in_a_router(block: Block, lab: Callable[..., Lab]) -> None:
    router = lab()
    (router.config_dir / "mwan3").write_text(configuration(block.name))
    own = environment(router.config_dir, router.run_dir)
    # The lab's programs come first: they are links to the lab's build of iptables.
    own["PATH"] = f"{router.bin_dir}:{program_path(router.router.env['PATH'])}"

    def run(command: str) -> str:
        done = router.router.run(["sh", "-c", f"{{ {command}; }} 2>&1"], check=False, env=own)
        return done.stdout.replace(str(router.config_dir), "/etc/config")

    if all(command != "connbal apply" for command, _ in block.steps()):
        run("connbal apply")
    follow(block, run)


def written_commands() -> list[Case]:
    """Every command line of connbal in a block or between backquotes, with the document it stands in."""
    found: dict[Case, None] = {}
    for block in blocks("console"):
        for command, _ in block.steps():
            if command.split()[0] == "connbal":
                found[(name_of(block.path), command.split(" | ")[0])] = None
    for path in DOCS:
        prose = _BLOCK.sub("", path.read_text("utf-8"))
        for text in re.findall(r"`(connbal [a-z][^`\n]*|connbal --[^`\n]*)`", prose):
            found[(name_of(path), text)] = None
    return list(found)


@pytest.mark.parametrize(("document", "command"), written_commands())
def test_commands_and_options_exist(document: str, command: str) -> None:
    """As click parses them; nothing is run."""
    assert accepted(command), f"{document}: {command}"


def accepted(command: str) -> bool:
    """Whether every word of a command line is a command, an option or an argument. Arguments may be left out."""
    words = shlex.split(command)[1:]
    here: click.Command = cli
    arguments: list[click.Parameter] = []
    while words:
        word = words.pop(0)
        context = click.Context(here)
        parameters = here.get_params(context)
        if word.startswith("-"):
            option = next((one for one in parameters if word.partition("=")[0] in [*one.opts, *one.secondary_opts]),
                          None)  # fmt: skip
            if not isinstance(option, click.Option):
                return False
            if not option.is_flag and "=" not in word:
                words = words[1:]
        elif isinstance(here, click.Group):
            found = here.get_command(context, word)
            if found is None:
                return False
            here, arguments = found, [one for one in found.params if isinstance(one, click.Argument)]
        elif not arguments:
            return False
        else:
            kind = arguments[0].type
            if kind is click.UNPROCESSED:  # a command of its own, whose words nobody here knows
                return True
            if arguments[0].nargs != -1:
                arguments.pop(0)
            if isinstance(kind, click.Choice) and word not in kind.choices:
                return False
    return True


@pytest.mark.parametrize(
    "command",
    ["connbal frobnicate", "connbal status --jsn", "connbal stop now", "connbal interface force wan sideways"],
)
def test_commands_that_do_not_exist_are_noticed(command: str) -> None:
    assert not accepted(command)


def all_commands() -> Iterator[tuple[str, click.Command]]:
    def below(prefix: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield prefix, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from below(f"{prefix} {name}", found)

    yield from below("connbal", cli)


COMMANDS = list(all_commands())


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
class TestHelp:
    def text(self, name: str, command: click.Command) -> str:
        return command.get_help(click.Context(command, info_name=name))

    def test_has_examples_that_exist(self, name: str, command: click.Command) -> None:
        lines = [line.strip() for line in self.text(name, command).splitlines()]
        shown = [re.split(r"\s{2,}", line)[0] for line in lines if line.startswith("connbal ")]
        assert shown, "no example"
        assert all(accepted(line) for line in shown)
        assert all(line.startswith(name) or " --" in line for line in shown)

    def test_every_option_and_every_command_is_explained(self, name: str, command: click.Command) -> None:
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
                assert parameter.help.endswith(".")
        _, _, below = self.text(name, command).partition("\nCommands:\n")
        assert "..." not in below, "a summary is cut"


def test_check_ends_with_1_where_it_finds_an_error(tmp_path: Path) -> None:
    (tmp_path / "mwan3").write_text(configuration("mistakes"))
    argv = [sys.executable, "-m", "connbal.cli.main", "--config-dir", str(tmp_path), "check"]
    assert subprocess.run(argv, cwd=ROOT, check=False, capture_output=True).returncode == 1


# --- configurations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("uci"), ids=str)
def test_configurations_mean_something(block: Block) -> None:
    findings = decode(parse(block.text.encode(), "mwan3")).findings
    if block.test == "broken":
        assert findings
    else:
        assert block.test == "example", "say whether it is an example or broken"
        assert not findings


def percents_of(config: Config, down: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """What each policy gives each interface, IPv4, on a machine where all but ``down`` works."""
    built = machine(" ".join(one.name for one in config.interfaces))
    for name in down:
        built.uplinks[name].up = False
    return {
        tier.policy: dict(zip((one.interface for one in tier.shares), percents([one.share for one in tier.shares]),
                              strict=True))
        for tier in plan(config, built.facts()).tiers
        if tier.family.version == 4
    }  # fmt: skip


EXAMPLES = {
    ("device", ""): {"TV_Policy": {"wan2": 100}, "All_Policy": {"wan1": 100}},
    ("device", "wan2"): {"TV_Policy": {}, "All_Policy": {"wan1": 100}},
    ("failover", ""): {"All_Policy": {"wwan": 100}},
    ("failover", "wwan"): {"All_Policy": {"wan1": 100}},
    ("split", ""): {"All_Policy": {"wan1": 67, "wan2": 33}},
    ("split", "wan2"): {"All_Policy": {"wan1": 100}},
}


@pytest.mark.parametrize(("name", "down"), EXAMPLES)
def test_the_examples_give_the_shares(name: str, down: str) -> None:
    assert percents_of(decoded(name), down.split()) == EXAMPLES[name, down]


@pytest.mark.parametrize("name", ["device", "failover", "split"])
def test_the_text_beside_an_example_states_its_shares(name: str) -> None:
    _, _, after = EXAMPLES_AS_FILES.read_text("utf-8").partition(f"```uci example={name}\n")
    prose = _BLOCK.sub("", "```uci\n" + after).split("\n## ")[0]
    stated = {int(number) for number in re.findall(r"(\d+) %", prose)}
    worked_out = {
        percent
        for (example, _), policies in EXAMPLES.items()
        if example == name
        for interfaces in policies.values()
        for percent in interfaces.values()
    }
    assert stated == worked_out


def test_rules_of_the_examples_are_reached_in_order() -> None:
    config = decoded("device")
    views = plan(config, machine("wan1 wan2").facts()).rules
    assert [view.name for view in views] == ["SmartTV", "All_Traffic"]
    assert all([family.value for family in view.families] == ["ipv4"] for view in views)


def test_the_table_of_weights() -> None:
    rows = re.findall(r"^\| (1[\d, and]*) \| ([^|]+) \| ([^|]+) \|$", README.read_text("utf-8"), re.MULTILINE)
    assert len(rows) >= 3
    for weights, inverse, proportional in rows:
        numbers = [int(number) for number in re.findall(r"\d+", weights)]
        for mode, cell in ((WeightMode.INVERSE, inverse), (WeightMode.PROPORTIONAL, proportional)):
            assert percents(shares(numbers, mode)) == [int(number) for number in re.findall(r"\d+", cell)]


# --- tables of docs/configuration.md --------------------------------------------------------------------------------


def option_table(options: Sequence[OptionSpec]) -> str:
    """The options of a section type as a table."""
    rows = ["| Option | Value | Default | Meaning | A bad value costs |", "| --- | --- | --- | --- | --- |"]
    for spec in options:
        name = f"`{spec.name}`" + (" (list)" if spec.is_list else "")
        rows.append(f"| {name} | {value_of(spec)} | {default_of(spec)} | {spec.doc} | {cost_of(spec)} |")
    return "".join(f"{row}\n" for row in rows)


def value_of(spec: OptionSpec) -> str:
    if spec.kind is Kind.CHOICE:
        return ", ".join(f"`{choice}`" for choice in spec.choices)
    if spec.kind is Kind.REFERENCE:
        return f"name of a `{spec.refers_to}`"
    return expected(spec).rstrip(",").replace(", ,", ",")


def default_of(spec: OptionSpec) -> str:
    if spec.default is not None:
        unit = f" {spec.unit}" if spec.unit and spec.kind is not Kind.MASK else ""
        return f"`{spec.default}`{unit}"
    if spec.default_from:
        return f"as `{spec.default_from}`"
    return "must be given" if spec.required else "none"


def cost_of(spec: OptionSpec) -> str:
    return {Cost.DEFAULT: "the default holds", Cost.ITEM: "that entry", Cost.SECTION: "the section"}[spec.cost]


@pytest.mark.parametrize("type_", SECTIONS)
def test_the_table_of_options(type_: str) -> None:
    text = CONFIGURATION.read_text("utf-8")
    begin, end = f"<!-- options of {type_} -->\n\n", "\n<!-- end -->"
    assert begin in text, f"docs/configuration.md has no place for the options of {type_}: {begin}"
    shown = text.split(begin)[1].split(end)[0]
    wanted = option_table(list(SECTIONS[type_].options.values()))
    if ACCEPT and shown != wanted:
        accept(CONFIGURATION, begin + shown + end, begin + wanted + end)
    else:
        assert shown == wanted, f"docs/configuration.md should say (CONNBAL_DOCS=accept writes it):\n{wanted}"


def test_ignored_options_are_named() -> None:
    text = CONFIGURATION.read_text("utf-8")
    for section in SECTIONS.values():
        for name in section.ignored:
            assert f"`{name}`" in text


def test_the_table_of_findings() -> None:
    shown = re.findall(r"^\| `([a-z]+(?:-[a-z]+)+|refused|narrowed|unnamed)` \|", CONFIGURATION.read_text("utf-8"),
                       re.MULTILINE)  # fmt: skip
    source = "".join(path.read_text("utf-8") for path in (ROOT / "connbal").rglob("*.py"))
    for code in shown:
        assert f'"{code}"' in source, code
    decoding = (ROOT / "connbal/uci/decode.py").read_text("utf-8").split('"""')[1]
    assert set(re.findall(r"^``([a-z-]+)`` ", decoding, re.MULTILINE)) <= set(shown)
    assert len(shown) == len(set(shown))


BASE = """
config interface 'wan'
	option enabled '1'

config member 'one'
	option interface 'wan'

config policy 'only'
	list use_member 'one'

config rule 'good'
	option dest_ip '198.51.100.0/24'
	option use_policy 'only'

config rule 'odd'
	option use_policy 'only'
"""

#: Options of rule ``odd`` -> whether the rule is there all the same. "good" always is.
ODD_RULES = {
    "option src_ip 'tv.lan'": False,
    "option src_ip '192.0.2.300'": False,
    "option proto 'tpc'": False,
    "option proto 'tcp'\n\toption dest_port '70000'": False,
    "option proto 'icmp'\n\toption dest_port '80'": False,
    "option family 'ipv4'\n\toption src_ip '2001:db8::1'": False,
    "option use_policy 'onyl'": False,
    "option proto 'tcp'\n\toption dest_port '1000-2000'": True,
    f"option proto 'tcp'\n\toption dest_port '{','.join(map(str, range(1, 21)))}'": True,
    "list src_ip '192.0.2.1'\n\tlist src_ip '2001:db8::1'": True,
    "option ipset 'nobody_made_it'": True,
    "option dest_port '80'": True,
}


@pytest.mark.parametrize("options", ODD_RULES, ids=repr)
def test_one_rule_never_takes_the_others_down(options: str) -> None:
    """What docs/configuration.md says of differences from mwan3."""
    config = decode(parse(f"{BASE}\t{options}\n".encode(), "mwan3")).config
    used = {view.name for view in plan(config, machine("wan").facts()).rules if view.families}
    assert used == ({"good", "odd"} if ODD_RULES[options] else {"good"})


# --- packages -----------------------------------------------------------------------------------------------------

def makefile(package: str) -> str:
    return (ROOT / "openwrt" / package / "Makefile").read_text("utf-8")


def test_what_the_package_depends_on_is_described() -> None:
    """That it is what is needed is tested in test_packages.py."""
    text = (ROOT / "openwrt/README.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in re.findall(r"\+(?:IPV6:)?([\w-]+)", makefile("connbal")))


@pytest.mark.parametrize("package", ["connbal", "python3-icmplib"])
def test_make_files_include_in_the_order_that_feeds_want(package: str) -> None:
    included = [Path(name).name for name in re.findall(r"^include (\S+)$", makefile(package), re.MULTILINE)]
    assert [name.split(")")[-1] for name in included] == ["rules.mk", "pypi.mk", "package.mk", "python3-package.mk"]


def test_the_version_is_said_once() -> None:
    assert f"\nPKG_VERSION:={__version__}\n" in makefile("connbal")
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


# --- links, names, words --------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_links_lead_somewhere(path: Path) -> None:
    prose = _BLOCK.sub("", path.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert there.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(there), target


@each_document
def test_paths_of_the_tree_exist(path: Path) -> None:
    """Names between backquotes that begin like something in this tree."""
    prose = path.read_text("utf-8")
    for name in re.findall(r"`((?:connbal|tests|docs|openwrt|files|\.ci)/[\w./-]+|\./\w+)`", prose):
        assert (ROOT / name).exists(), name


def variables(*folders: str) -> set[str]:
    found: set[str] = set()
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and file.suffix in (".py", ".md", ".js", ""):
                found |= set(re.findall(r"\bCONNBAL_[A-Z_]+\b", file.read_text("utf-8", "replace")))
    return found


def test_variables_exist_and_are_all_described() -> None:
    in_documents = {name for path in DOCS for name in re.findall(r"\bCONNBAL_[A-Z_]+\b", path.read_text("utf-8"))}
    in_code = variables("connbal", "tests", ".ci")
    testing = (ROOT / "docs/testing.md").read_text("utf-8")
    assert in_documents == in_code
    assert not {name for name in in_code if f"`{name}`" not in testing}


@each_document
def test_lines_are_short_and_plain(path: Path) -> None:
    text = path.read_text("utf-8")
    outside = "\n".join(line for line in _BLOCK.sub("", text).splitlines() if not line.startswith("|"))
    assert max(map(len, outside.splitlines())) <= 120
    assert not re.search(r"[\U0001F000-\U0001FFFF\u2600-\u27BF]", text), "a picture"
    assert not re.search(r"[ \t]$", text, re.MULTILINE), "blanks at the end of a line"
    assert text.endswith("\n")


@each_document
def test_documents_speak_of_connbal_only(path: Path) -> None:
    """Not of who wrote it, of how, or of the machine it was written on."""
    text = path.read_text("utf-8")
    made_by = r"\b(?:written|generated|created|produced) (?:by|with)\b|\bauthors?\b"
    found = re.search(rf"(?i:{made_by})|\b(?:TODO|FIXME|XXX|I|We|we|my|our)\b", text)
    assert found is None, found
    places = re.search(r"(?<![\w.])/(?:home|root|Users|work|mnt|media)/", text)
    assert places is None, places

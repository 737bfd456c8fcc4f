"""The verbs that look: ``list`` and ``show``. They read the file as it is, and decode it only for shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from connbal.cli.output import emit, table, visible
from connbal.model.names import PACKAGE

if TYPE_CHECKING:
    from connbal.cli.context import Session
    from connbal.uci.package import Package, Section, Value
    from connbal.uci.schema import OptionSpec

#: Longest text of one match in a table; ``show`` has all of it.
_LONGEST = 30
_NAMES = {"interface": "wan1", "member": "Primary", "policy": "All_Policy", "rule": "SmartTV"}

Row = dict[str, Any]


def command(type_: str, verb: str) -> click.Command:
    """``connbal TYPE list`` or ``connbal TYPE show``."""
    return _list(type_) if verb == "list" else _show(type_)


# --- list -----------------------------------------------------------------------------------------------------------


def _list(type_: str) -> click.Command:
    plural = {"policy": "policies"}.get(type_, f"{type_}s")

    @click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
    @click.pass_obj
    def list_(session: Session, as_json: bool) -> None:
        package = session.store().load(PACKAGE)
        rows, lines = _LISTS[type_](package)
        if as_json:
            emit(f"{type_}-list", {plural: rows})
        else:
            click.echo("\n".join(lines) if rows else f"no {plural}")

    text = f"Show all {plural} in the order of the file."
    if type_ == "policy":
        text += " Shares are those when every interface works; MODE says how weights become shares."
    examples = f"\b\nExamples:\n  connbal {type_} list\n  connbal {type_} list --json\n"
    return click.command("list", help=f"{text}\n\n{examples}")(list_)


def _interfaces(package: Package) -> tuple[list[Row], list[str]]:
    rows = []
    for index, section in enumerate(package.of_type("interface")):
        rows.append({
            "id": index + 1, **_identity(section, index), "enabled": _flag(section, "enabled", False),
            "family": _text(section, "family", "ipv4"), "track_method": _text(section, "track_method", "ping"),
            "track_ip": _words(section, "track_ip"),
        })  # fmt: skip
    lines = table("", ["ID", "NAME", "ENABLED", "FAMILY", "METHOD", "HOSTS"], [
        (str(row["id"]), row["reference"], _yes(row["enabled"]), row["family"], row["track_method"],
         _some(row["track_ip"]) or "not tracked")
        for row in rows
    ])  # fmt: skip
    return rows, lines


def _members(package: Package) -> tuple[list[Row], list[str]]:
    rows = [
        {
            **_identity(section, index), "interface": _text(section, "interface", ""),
            "metric": _text(section, "metric", "1"), "weight": _text(section, "weight", "1"),
        }
        for index, section in enumerate(package.of_type("member"))
    ]  # fmt: skip
    lines = table("", ["NAME", "INTERFACE", "METRIC", "WEIGHT"], [
        (row["reference"], row["interface"] or "-", row["metric"], row["weight"]) for row in rows
    ])  # fmt: skip
    return rows, lines


def _policies(package: Package) -> tuple[list[Row], list[str]]:
    """A policy has a row for each family and metric. Policies that are left out have one without members."""
    from connbal.cli.shares import tiers
    from connbal.uci.decode import decode

    found = tiers(decode(package).config)
    rows: list[Row] = []
    cells: list[tuple[str, ...]] = []
    for index, section in enumerate(package.of_type("policy")):
        about = found.get(section.name)
        row = {
            **_identity(section, index), "members": _words(section, "use_member"),
            "last_resort": _text(section, "last_resort", "unreachable"),
            "weight_mode": about.weight_mode if about else None, "affinity": about.affinity if about else None,
            "tiers": about.tiers if about else [],
        }  # fmt: skip
        rows.append(row)
        cells += _policy_cells(row)
    return rows, table("", ["NAME", "FAMILY", "METRIC", "MODE", "SHARES"], cells)


def _policy_cells(row: Row) -> Iterator[tuple[str, ...]]:
    if not row["tiers"]:
        yield row["reference"], "-", "-", row["weight_mode"] or "-", f"no enabled interface: {row['last_resort']}"
    for number, tier in enumerate(row["tiers"]):
        shares = ", ".join(f"{share['interface']} {share['percent']} %" for share in tier["shares"])
        name, mode = (row["reference"], row["weight_mode"]) if number == 0 else ("", "")
        yield name, tier["family"], str(tier["metric"]), mode, shares


def _rules(package: Package) -> tuple[list[Row], list[str]]:
    rows, cells = [], []
    for index, section in enumerate(package.of_type("rule")):
        enabled, policy = _flag(section, "enabled", True), _text(section, "use_policy", "")
        rows.append({
            "number": index + 1, **_identity(section, index), "enabled": enabled, "policy": policy,
            "options": _options(section),
        })  # fmt: skip
        reference = rows[-1]["reference"]
        cells.append((str(index + 1), reference, _yes(enabled), policy or "-", _matches(section)))
    return rows, table("", ["#", "NAME", "ENABLED", "POLICY", "MATCHES"], cells)


_LISTS: Mapping[str, Callable[[Package], tuple[list[Row], list[str]]]] = {
    "interface": _interfaces, "member": _members, "policy": _policies, "rule": _rules,
}  # fmt: skip


def _matches(section: Section) -> str:
    """What a rule matches, in short: ``tcp from 192.168.1.178 to 0.0.0.0/0 port 443``."""
    parts = [_some(words) for option in ("family", "proto") if (words := _words(section, option))]
    for word, address, port, other in (
        ("from", "src_ip", "src_port", "ipset_src"), ("to", "dest_ip", "dest_port", "ipset"),
    ):  # fmt: skip
        about = [_some(_words(section, address))] if section.options.get(address) else []
        if section.options.get(other):
            about.append(f"set {_some(_words(section, other))}")
        if section.options.get(port):
            about.append(f"port {_some(_words(section, port))}")
        if about:
            parts.append(f"{word} {' '.join(about)}")
    for word, option in (("device", "src_mac"), ("in by", "src_iface")):
        if section.options.get(option):
            parts.append(f"{word} {_some(_words(section, option))}")
    parts += [word for word in ("sticky", "logging") if _flag(section, word, False)]
    return " ".join(parts) or "everything"


# --- show -----------------------------------------------------------------------------------------------------------


def _show(type_: str) -> click.Command:
    @click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
    @click.pass_obj
    def show(session: Session, as_json: bool, name: str = "globals") -> None:
        from connbal.uci.operations import find_in
        from connbal.uci.package import Section

        package = session.store().load(PACKAGE)
        if type_ == "globals" and package.get("globals") is None:
            section = Section("globals", "globals")
        else:
            section = find_in(package, type_, name)
        index = [one.name for one in package.of_type(type_)].index(section.name) if name != "globals" else 0
        _print_section(section, index, as_json)

    what = "the globals" if type_ == "globals" else f"{type_} NAME"
    text = f"Show every option of {what}. Defaults are marked, and so are unknown options."
    subject = f"connbal {type_} show {_NAMES.get(type_, '')}".rstrip()
    if type_ != "globals":
        from connbal.cli import complete

        show = click.argument("name", shell_complete=complete.sections(type_))(show)
    return click.command("show", help=f"{text}\n\n\b\nExamples:\n  {subject}\n  {subject} --json\n")(show)


def _print_section(section: Section, index: int, as_json: bool) -> None:
    from connbal.uci.schema import SECTIONS

    spec = SECTIONS[section.type]
    defaults = {one.name: _default(section, one) for one in spec.options.values() if one.name not in section.options}
    if as_json:
        known = {name: value for name, value in _options(section).items() if name in spec.options}
        others = {name: value for name, value in _options(section).items() if name not in spec.options}
        document = {**_identity(section, index), "options": known, "defaults": defaults, "unknown": others}
        emit(section.type, document)
        return
    rows = []
    for name, one in spec.options.items():
        value = section.options.get(name)
        if value is not None:
            rows.append((name, _joined(value), ""))
        else:
            default = defaults[name]
            rows.append((name, "-" if default is None else default, "" if one.required else "default"))
    rows += [(name, _joined(value), "unknown") for name, value in section.options.items() if name not in spec.options]
    head = section.type if section.type == "globals" else f"{section.type} {visible(_reference(section, index))}"
    click.echo("\n".join(table(head, ["OPTION", "VALUE", ""], rows)))


def _default(section: Section, spec: OptionSpec) -> str | None:
    """What an option that is absent means, as one would write it; None where it means nothing at all."""
    if spec.default_from:
        from connbal.uci.schema import SECTIONS

        origin = SECTIONS[section.type].options[spec.default_from]
        return _text(section, origin.name, origin.default or "")
    return spec.default


# --- values ---------------------------------------------------------------------------------------------------------


def _identity(section: Section, index: int) -> Row:
    """``name``: null where the section has none; ``reference``: what commands take."""
    name = None if section.anonymous else section.name
    return {"name": name, "reference": _reference(section, index)}


def _reference(section: Section, index: int) -> str:
    return f"@{section.type}[{index}]" if section.anonymous else section.name


def _options(section: Section) -> dict[str, str | list[str]]:
    return {name: value if isinstance(value, str) else list(value) for name, value in section.options.items()}


def _words(section: Section, option: str) -> list[str]:
    """The entries of an option, whether the file has a list or one string of several."""
    value: Value = section.options.get(option, ())
    texts = (value,) if isinstance(value, str) else value
    return [word for text in texts for word in text.replace("! ", "!").replace(",", " ").split()]


def _text(section: Section, option: str, default: str) -> str:
    return " ".join(_words(section, option)) or default


def _flag(section: Section, option: str, default: bool) -> bool:
    """A boolean as UCI writes it; anything else is a mistake that check reports, and counts as the default."""
    words = {"1": True, "on": True, "true": True, "yes": True, "enabled": True,
             "0": False, "off": False, "false": False, "no": False, "disabled": False}  # fmt: skip
    return words.get(_text(section, option, "").lower(), default)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _joined(value: Value) -> str:
    return value if isinstance(value, str) else " ".join(value)


def _some(words: Sequence[str]) -> str:
    """Entries with commas between them, as many as fit; the first always."""
    shown = ",".join(words)
    if len(shown) <= _LONGEST:
        return shown
    first = words[0] if len(words[0]) <= _LONGEST else f"{words[0][:_LONGEST]}..."
    return f"{first} and {len(words) - 1} more" if len(words) > 1 else first

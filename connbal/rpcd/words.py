"""A call of object ``connbal`` as the command line that does it. Pure.

Values only ever stand behind ``=`` or after ``--``, and what stands before them comes from the tables of methods and
options: no value can become an option, and none meets a shell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connbal.errors import UsageError
from connbal.rpcd import arguments
from connbal.rpcd.arguments import Given
from connbal.uci.operations import REFERRING
from connbal.uci.schema import SECTIONS, Kind, OptionSpec
from connbal.uci.values import BadValue, parse_bool

#: Options of ``connbal setup``: which may be given once, which more often.
_TRAFFIC_ONCE, _TRAFFIC_MANY = ("proto", "ipset", "name"), ("ip", "mac", "dest_port")
_SETUP: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {  # and what has no option of its own
    "device": (("name",), ("ip", "mac", "use", "else"), ""),
    "failover": (_TRAFFIC_ONCE, _TRAFFIC_MANY, "interfaces"),
    "split": ((*_TRAFFIC_ONCE, "affinity"), _TRAFFIC_MANY, "shares"),
}


def words(method: str, given: Given) -> list[str]:
    """The command line for a call whose arguments have been checked. UsageError: they do not go together."""
    made = _MAKERS[method](given)
    if "confirm" not in given:
        return made
    if not (given["confirm"].isascii() and given["confirm"].isdigit()):
        raise UsageError(f"argument confirm: {given['confirm']!a} is no whole number of seconds")
    place = made.index("--json")
    return [*made[:place], _option("confirm", given["confirm"]), *made[place:]]


def _plain(*command: str) -> Callable[[Given], list[str]]:
    return lambda _: [*command, "--json"]


def _list(given: Given) -> list[str]:
    return [given["type"], "list", "--json"]


def _show(given: Given) -> list[str]:
    return [given["type"], "show", "--json", *_named(given)]


def _explain(given: Given) -> list[str]:
    return ["explain", "--json", *(_option(name, value) for name, value in given.items())]


def _diagnose(given: Given) -> list[str]:
    return ["diagnose", "--json", "--", *([given["interface"]] if "interface" in given else [])]


def _add(given: Given) -> list[str]:
    options = _options(given["type"], given.get("options", {}), given.get("unset", []), lists_end=False)
    name = [given["name"]] if "name" in given else []
    if not name and given["type"] != "rule":
        raise UsageError("argument name is missing: name of the section")
    return [given["type"], "add", "--json", *options, "--", *name]


def _set(given: Given) -> list[str]:
    options = _options(given["type"], given.get("options", {}), given.get("unset", []), lists_end=True)
    return [given["type"], "set", "--json", *options, *_named(given)]


def _move(given: Given) -> list[str]:
    place, other = given["place"], given.get("other")
    if place not in ("before", "after", "to"):
        if other is not None:
            raise UsageError(f"argument other makes no sense with place {place}")
        where = f"--{place}"
    elif other is None:
        raise UsageError(f"argument other is missing: place {place} needs it")
    elif place == "to" and not (other.isascii() and other.isdigit() and len(other) < 10):
        raise UsageError(f"argument other: {other!a} is no whole number from 1 on")
    else:
        where = _option(place, other)
    return ["rule", "move", "--json", where, "--", given["name"]]


def _delete(given: Given) -> list[str]:
    cascade = ["--cascade"] if given.get("cascade") and REFERRING[given["type"]] else []
    return [given["type"], "delete", "--json", *cascade, "--", given["name"]]


def _rename(given: Given) -> list[str]:
    return [given["type"], "rename", "--json", "--", given["name"], given["new"]]


def _confirm(given: Given) -> list[str]:
    return ["confirm", "--json", *(["--revert"] if given.get("revert") else [])]


def _setup(given: Given) -> list[str]:
    scenario = given["scenario"]
    options = dict(given.get("options", {}))
    dry_run = arguments.flag(options.pop("dry_run", False), "options.dry_run") or given.get("dry_run", False)
    once, many, rest = _SETUP[scenario]
    arguments.refuse_unknown(options, (*once, *many, *filter(None, [rest])), f"setup {scenario} has no option")
    made, last = [], []
    for name, value in options.items():
        where = f"options.{name}"
        if value is None or value in ("", []):
            continue
        if name == "shares":
            last = [_share(key, part) for key, part in arguments.whole(arguments.table(value, where), where).items()]
        elif name == "interfaces":
            last = arguments.texts(value, where)
        elif name in many:
            made += [_option(name, one) for one in arguments.one_or_more(value, where)]
        else:
            made.append(_option(name, arguments.text(value, where)))
    if rest and not last:
        raise UsageError(f"options.{rest} is missing")
    return ["setup", scenario, "--json", *(["--dry-run"] if dry_run else []), *made, "--", *last]


def _share(name: str, part: int) -> str:
    if "=" in name:
        raise UsageError(f"options.shares: {name!a} is no interface")
    return f"{name}={part}"


def _named(given: Given) -> list[str]:
    """The name, after what says that it is no option; ``globals`` is alone of its type and has none."""
    if given["type"] == "globals":
        if given.get("name", "globals") != "globals":
            raise UsageError("there is one section globals only; leave argument name out")
        return []
    if "name" not in given:
        raise UsageError("argument name is missing: name of the section")
    return ["--", given["name"]]


# --- options ------------------------------------------------------------------------------------------------------


def _options(type_: str, given: Mapping[str, Any], unset: list[str], *, lists_end: bool) -> list[str]:
    """Options of a section. ``lists_end``: an empty array or text takes the option out."""
    specs = SECTIONS[type_].options
    what = f"a {type_} has no option" if type_ != "globals" else "globals has no option"
    arguments.refuse_unknown([*given, *unset], specs, what)
    made = []
    gone = dict.fromkeys(unset)
    for name, value in given.items():
        if value is None or value in ("", []):
            if lists_end:
                gone[name] = None
            continue
        if name in gone:
            raise UsageError(f"option {name} is set and unset at once")
        made += _of_option(specs[name], value)
    return [*made, *(_option("unset", name) for name in gone)]


def _of_option(spec: OptionSpec, value: object) -> list[str]:
    where = f"options.{spec.name}"
    if spec.is_list:
        return [_option(spec.name, one) for one in arguments.one_or_more(value, where)]
    one = arguments.text(value, where)
    if spec.kind is not Kind.BOOL:
        return [_option(spec.name, one)]
    try:
        on = parse_bool(one, spec)
    except BadValue as error:
        raise UsageError(f"{where}: {one!a} is neither 1 nor 0") from error
    flag = spec.name.replace("_", "-")
    return [f"--{flag}" if on else f"--no-{flag}"]


def _option(name: str, value: str) -> str:
    return f"--{name.replace('_', '-')}={value}"


_MAKERS: Mapping[str, Callable[[Given], list[str]]] = {
    "status": _plain("status"), "check": _plain("check"), "apply": _plain("apply"), "list": _list, "show": _show,
    "explain": _explain, "diagnose": _diagnose, "add": _add, "set": _set, "move": _move, "delete": _delete,
    "rename": _rename, "setup": _setup, "confirm": _confirm,
}  # fmt: skip

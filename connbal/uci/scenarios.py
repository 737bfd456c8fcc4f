"""The three scenarios: a source for a device, failover, a split. Each becomes all the sections that it needs. Pure.

A scenario finds what it made before by name, so that the same wish changes nothing and another wish changes the same
sections. Names are those of the documentation (All_Traffic, All_Policy, Primary, Source1), or come from the rule's:
rule SmartTV has policy TV_Policy and member TV_Internet. :mod:`connbal.uci.scenario` carries them out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from connbal.errors import UsageError
from connbal.model.config import Affinity
from connbal.uci.edit import Editor
from connbal.uci.scenario import Making, Outcome, Source, Traffic

#: The rule for every connection that no rule above it takes.
ALL_TRAFFIC = "All_Traffic"
EVERYTHING = Traffic()
#: Members of a failover, most preferred first; from the third on they are numbered.
_TIERS = ("Primary", "Secondary")
#: As many metrics as a member's option takes.
_MAX_SOURCES = 256
_MAX_PART = 1_000_000
#: 15 characters less those of ``_Policy``.
MAX_STEM = 8


def device(
    editor: Editor,
    traffic: Traffic,
    use: Sequence[str],
    *,
    others: Sequence[str] = (),
    name: str | None = None,
    networks: Collection[str] = (),
) -> list[Outcome]:
    """The devices of ``traffic`` use the first source of ``use``, while that is down the next. Everything else uses
    ``others`` in the same way, where given.

    networks: names in ``/etc/config/network``: those that have no interface section yet get one.

    Raises UsageError where an interface does not exist, a value is none, or a name belongs to something else; and
    ConfigError as the editor does.
    """
    if not traffic.is_device:
        raise UsageError("which device is not said; give --ip or --mac")
    making = Making(editor, networks)
    rule = name or _rule(making, traffic)
    outcomes = [making.carry_out(rule, traffic, _one_after_the_other(use))]
    if others:
        outcomes.append(making.carry_out(ALL_TRAFFIC, EVERYTHING, _one_after_the_other(others)))
    return outcomes


def failover(
    editor: Editor,
    interfaces: Sequence[str],
    *,
    traffic: Traffic = EVERYTHING,
    name: str | None = None,
    networks: Collection[str] = (),
) -> list[Outcome]:
    """``traffic`` uses the first of ``interfaces``; while that is down the second, and so on. Raises as device."""
    _several(interfaces)
    labels = [*_TIERS, *(f"Backup{number}" for number in range(3, len(interfaces) + 1))]
    sources = _ranked(labels, interfaces)
    making = Making(editor, networks)
    return [making.carry_out(name or _rule(making, traffic), traffic, sources)]


def split(
    editor: Editor,
    parts: Mapping[str, int],
    *,
    affinity: Affinity | None = None,
    traffic: Traffic = EVERYTHING,
    name: str | None = None,
    networks: Collection[str] = (),
) -> list[Outcome]:
    """``traffic`` is divided among interfaces in the proportion of ``parts``, each from 1 to a million.

    The weights come from the weight mode in force: the policy's, else that of globals. ``affinity``: of the policy;
    None: as it is. Raises as device.
    """
    _several(list(parts))
    for interface, part in parts.items():
        if not 1 <= part <= _MAX_PART:
            raise UsageError(f"{interface}={part}: a share is a whole number from 1 to {_MAX_PART}")
    sources = [Source(f"Source{number}", one) for number, one in enumerate(parts, start=1)]
    making = Making(editor, networks)
    return [making.carry_out(name or _rule(making, traffic), traffic, sources, tuple(parts.values()), affinity)]


def _several(interfaces: Sequence[str]) -> None:
    if len(interfaces) < 2:
        raise UsageError("name at least two interfaces; for one device on one source there is connbal setup device")
    _distinct(interfaces)


def _distinct(interfaces: Sequence[str]) -> None:
    double = next((one for one in interfaces if interfaces.count(one) > 1), None)
    if double is not None:
        raise UsageError(f"interface {double!r} is given twice; name each once")
    if len(interfaces) > _MAX_SOURCES:
        raise UsageError(f"{len(interfaces)} interfaces are given; at most {_MAX_SOURCES} are possible")


def _one_after_the_other(interfaces: Sequence[str]) -> list[Source]:
    _distinct(interfaces)
    labels = ["Internet", *(f"Internet{number}" for number in range(2, len(interfaces) + 1))]
    return _ranked(labels, interfaces)


def _ranked(labels: Sequence[str], interfaces: Sequence[str]) -> list[Source]:
    """One member for each, with metrics from 1 up."""
    pairs = zip(labels, interfaces, strict=True)
    return [Source(label, one, metric) for metric, (label, one) in enumerate(pairs, start=1)]


def _rule(making: Making, traffic: Traffic) -> str:
    """The rule's name where none is given: All_Traffic, or a short one that says what it is about."""
    return ALL_TRAFFIC if making.is_everything(traffic) else making.rule_for(traffic, _short_name(traffic))


def _short_name(traffic: Traffic) -> str:
    """``Dev178`` for 192.168.1.178, ``Tcp443`` for the port: with ``_Policy`` behind it no longer than the 15
    characters that mwan3 and its pages in LuCI take.
    """
    if traffic.ipset:
        return _letters(traffic.ipset)[:MAX_STEM]
    if not traffic.is_device:
        return _letters(traffic.proto.capitalize() + "_".join(traffic.dest_ports))[:MAX_STEM]
    if traffic.ips:
        address, _, length = traffic.ips[0].partition("/")
        last = address.replace(":", ".").split(".")[-1]
        return _letters(f"Dev{last}_{length}" if length else f"Dev{last}")[:MAX_STEM]
    return f"Dev{_letters(traffic.macs[0]).replace('_', '')[-4:]}"


def _letters(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in text)

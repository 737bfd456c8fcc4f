"""The objects, their methods and arguments: what is listed, checked, allowed and documented. Pure.

The scripts in ``/usr/libexec/rpcd`` repeat this as JSON, and the file in ``/usr/share/rpcd/acl.d`` repeats which
methods read: tests hold them against this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connbal.frozen import dataclass

#: Section types that have a method's verb.
LISTED = ("interface", "member", "policy", "rule")
SHOWN = (*LISTED, "globals")
PLACES = ("first", "last", "up", "down", "before", "after", "to")
SCENARIOS = ("device", "failover", "split")

#: Kind -> how rpcd is told of it.
KINDS: Mapping[str, Any] = {"text": "String", "table": {}, "array": [], "flag": True}


@dataclass(frozen=True)
class Argument:
    """``kind``: ``text`` (a string), ``table``, ``array`` or ``flag`` (true or false)."""

    name: str
    doc: str
    kind: str = "text"
    words: tuple[str, ...] = ()  #: the only texts it may be; none: any
    required: bool = False
    number: bool = False  #: a text that may as well be a whole number


@dataclass(frozen=True)
class Method:
    """``writes``: it changes something, so that who may only read may not call it."""

    name: str
    doc: str
    arguments: tuple[Argument, ...] = ()
    writes: bool = False

    @property
    def signature(self) -> dict[str, Any]:
        """Argument -> type, as rpcd is told."""
        return {one.name: KINDS[one.kind] for one in self.arguments}


def _type(words: tuple[str, ...]) -> Argument:
    return Argument("type", "type of the section", words=words, required=True)


def _name(required: bool = True, doc: str = "name of the section, or its place: `@rule[0]`") -> Argument:
    return Argument("name", doc, required=required)


_OPTIONS = Argument("options", "option -> its value, or an array with those of a list", "table")
_CONFIRM = Argument(
    "confirm", "seconds, 5 to 3600, after which it goes back by itself unless `confirm` keeps it", number=True
)
_ANY_RULE = "`before`, `after`: name of the other rule; `to`: a number from 1"

MWAN3 = (
    Method("status", "Interfaces, local networks and policies as mwan3 tells them.", (
        Argument("section", "`interfaces`, `connected` or `policies`: only that"),
        Argument("interface", "only this interface"),
    )),
)  # fmt: skip

CONNBAL = (
    Method("status", "`connbal status`: how things are."),
    Method("list", "`connbal TYPE list`: all sections of a type.", (_type(LISTED),)),
    Method("show", "`connbal TYPE show`: every option of a section.", (
        _type(SHOWN), _name(False, "name of the section, or its place: `@rule[0]`; none for `globals`"),
    )),
    Method("check", "`connbal check`: what is wrong with the configuration, or probably not meant."),
    Method("explain", "`connbal explain`: which way a connection would go, and why.", (
        Argument("src", "address of the sender"),
        Argument("dst", "address it goes to", required=True),
        Argument("proto", "`tcp`, `udp`, `icmp`, another name or a number", number=True),
        Argument("dport", "destination port", number=True),
        Argument("sport", "source port", number=True),
        Argument("iif", "network or device it comes in by"),
        Argument("mac", "Ethernet address of the sender"),
    )),
    Method("diagnose", "`connbal diagnose`: what is wrong with an interface.", (
        Argument("interface", "only this one; else all that are enabled"),
    )),
    Method("add", "`connbal TYPE add`: add a section.", (
        _type(LISTED), _name(False, "name of the section; rules can do without"), _OPTIONS, _CONFIRM,
    ), writes=True),
    Method("set", "`connbal TYPE set`: change options of a section.", (
        _type(SHOWN), _name(False, "name of the section, or its place: `@rule[0]`; none for `globals`"), _OPTIONS,
        Argument("unset", "options to take out, so that their defaults hold", "array"), _CONFIRM,
    ), writes=True),
    Method("move", "`connbal rule move`: move a rule to another place.", (
        Argument("type", "`rule`: others have no order", words=("rule",)), _name(),
        Argument("place", "where to", words=PLACES, required=True), Argument("other", _ANY_RULE, number=True),
        _CONFIRM,
    ), writes=True),
    Method("delete", "`connbal TYPE delete`: delete a section.", (
        _type(LISTED), _name(),
        Argument("cascade", "also delete what cannot do without it", "flag"), _CONFIRM,
    ), writes=True),
    Method("rename", "`connbal TYPE rename`: give a section another name.", (
        _type(LISTED), _name(), Argument("new", "the new name", required=True), _CONFIRM,
    ), writes=True),
    Method("setup", "`connbal setup`: a source for a device, failover, or a split.", (
        Argument("scenario", "what to set up", words=SCENARIOS, required=True),
        Argument("options", "see below", "table"),
        Argument("dry_run", "only tell what would change", "flag"), _CONFIRM,
    ), writes=True),
    Method("apply", "`connbal apply`: bring the kernel to what the configuration says.", (_CONFIRM,), writes=True),
    Method("confirm", "`connbal confirm`: keep the change that waits for it, or take it back.", (
        Argument("revert", "take it back now", "flag"),
    ), writes=True),
)  # fmt: skip

OBJECTS: Mapping[str, tuple[Method, ...]] = {"mwan3": MWAN3, "connbal": CONNBAL}


def signatures(name: str) -> dict[str, dict[str, Any]]:
    """Method -> argument -> type: what ``list`` prints for an object."""
    return {method.name: method.signature for method in OBJECTS[name]}


def find(object_: str, method: str) -> Method | None:
    """A method; None where there is none."""
    return next((one for one in OBJECTS.get(object_, ()) if one.name == method), None)

"""What ``connbal ipset`` prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM, Finding

Family = Literal["ipv4", "ipv6"]


class SiteSet(TypedDict):
    """A set of one family."""

    name: Annotated[str, "as in the kernel"]
    family: Annotated[Family, "of the addresses it is for"]


class LiveEntry(TypedDict):
    """An address or network in a set."""

    address: Annotated[str, "as ipset prints it"]
    remaining: Annotated[int | None, "seconds until it is forgotten; null: never"]


class LiveSiteSet(SiteSet):
    """A set of one family as it is in the kernel."""

    exists: Annotated[bool, "it is there"]
    type: Annotated[str | None, "`hash:ip` or another; null: there is no such set"]
    timeout: Annotated[int | None, "seconds that a new entry stays; null: for good, or there is no such set"]
    entries: Annotated[list[LiveEntry], "by address"]


class _Named(TypedDict):
    name: Annotated[str, "of the first set: what rules say"]
    section: Annotated[str, "of package `dhcp`; without a name it is good until the next change"]
    family: Annotated[Literal["ipv4", "ipv6", "any"], "`any`: both, in two sets"]
    domains: Annotated[list[str], "each with all below it, other scripts as `xn--`"]
    timeout: Annotated[int | None, "seconds as the section says; null: it does not"]
    rules: Annotated[list[str], "that name one of the sets, in order"]


class Site(_Named):
    """A section `ipset` of package `dhcp`."""

    sets: Annotated[list[SiteSet], "that dnsmasq fills"]


class SiteList(TypedDict):
    """The sections `ipset` of package `dhcp`."""

    schema: Annotated[Literal["ipset-list/1"], FORM]
    ipsets: Annotated[list[Site], "in the order of the file"]
    findings: Annotated[list[Finding], "about the file and dnsmasq"]


class SiteShown(_Named):
    """A section `ipset` of package `dhcp`, with what its sets hold."""

    schema: Annotated[Literal["ipset/1"], FORM]
    sets: Annotated[list[LiveSiteSet], "that dnsmasq fills"]
    findings: Annotated[list[Finding], "about the section, its sets and dnsmasq"]


class SiteEdit(Site):
    """A section `ipset` after a change of it, or before its end. The exit code is 1 where dnsmasq or the rules could
    not be told.
    """

    schema: Annotated[Literal["ipset-edit/1"], FORM]
    dry_run: Annotated[bool, "nothing was changed"]
    done: Annotated[list[str], "besides the file, in words, in order"]
    conf: Annotated[str, "line for the configuration of a dnsmasq that does not read UCI; empty: it does, or was left"]
    findings: Annotated[list[Finding], "about dnsmasq and the rules"]

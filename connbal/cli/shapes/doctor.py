"""What ``connbal doctor`` prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM, Finding


class RivalProcess(TypedDict):
    """A process of mwan3."""

    pid: Annotated[int, "process id"]
    script: Annotated[str, "path of the script it runs"]
    interface: Annotated[str | None, "the interface that it tracks; null: it tracks none"]


class Left(TypedDict):
    """What is there of mwan3."""

    mask: Annotated[str | None, "mask under which it marks, hexadecimal; null: none of its rules is there"]
    ids: Annotated[dict[str, int], "id of each interface, as its chains say"]
    chains: Annotated[dict[str, list[str]], "by family"]
    rules: Annotated[list[str], "policy-routing rules, as `ip rule` shows them, after the family"]
    routes: Annotated[list[str], "routes, as `ip route` shows them, after the family"]
    sets: Annotated[list[str], "ipsets that connbal does not go on using"]
    files: Annotated[list[str], "files and directories below the run directory"]


class Difference(TypedDict):
    """Where mwan3 does something else than connbal with the same configuration."""

    code: Annotated[str, "kind of difference, stable; [moving.md](moving.md) lists them"]
    place: Annotated[str, "`PACKAGE.SECTION.OPTION`, as far as it applies"]
    mwan3: Annotated[str, "what mwan3 does, in words"]
    connbal: Annotated[str, "what connbal does, in words"]
    remedy: Annotated[str, "what makes mwan3 do the same, in words"]


class Doctor(TypedDict):
    """What of mwan3 is there, and what was done about it, or would be."""

    schema: Annotated[Literal["doctor/1"], FORM]
    well: Annotated[bool, "nothing of mwan3 is left, and the kernel is as connbal wants it"]
    applied: Annotated[bool, "connbal is at work"]
    running: Annotated[list[RivalProcess], "by process id"]
    supervised: Annotated[bool, "procd would start mwan3's processes again"]
    installed: Annotated[list[str], "files of package mwan3"]
    left: Annotated[Left, "what is there of mwan3, after what was done"]
    others: Annotated[list[str], "what has numbers or names of mwan3 and is not certainly its: left alone"]
    conflicts: Annotated[list[str], "why open connections have to begin anew; empty: they go on"]
    differences: Annotated[
        list[Difference], "what changes under connbal; empty where it is at work alone, and once something was done"
    ]
    done: Annotated[bool, "`changes` have been made; false: they would be"]
    changes: Annotated[list[str], "in words, in order; + makes, ~ changes, - takes away"]
    findings: Annotated[list[Finding], "about the configuration"]


class WayBack(TypedDict):
    """What mwan3 would do otherwise with the present configuration (`doctor --way-back`)."""

    schema: Annotated[Literal["way-back/1"], FORM]
    differences: Annotated[list[Difference], "empty: mwan3 would do the same"]

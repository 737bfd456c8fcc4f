"""What ``connbal diagnose`` prints."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

from connbal.cli.shapes.common import FORM


class DiagnosisStep(TypedDict):
    """One thing that was tested."""

    step: Annotated[str, "`section`, `network`, `link`, ...: [diagnose.md](diagnose.md) has them all; `host NAME`"]
    result: Annotated[Literal["ok", "fail", "skipped"], "`skipped`: an earlier one failed, or there is nothing to test"]
    text: Annotated[str, "what was found, in words"]
    remedy: Annotated[str | None, "what to do, in words; null: nothing"]


class Diagnosed(TypedDict):
    """What was found out about an interface."""

    name: Annotated[str, "name of the section"]
    family: Annotated[Literal["ipv4", "ipv6"] | None, "address family it serves; null: its section is wrong"]
    device: Annotated[str | None, "network device; null: there is none"]
    ok: Annotated[bool, "no step failed"]
    wrong: Annotated[str | None, "what is wrong, in one sentence; null: nothing is"]
    remedy: Annotated[str | None, "what to do about it, in words; null: nothing"]
    steps: Annotated[list[DiagnosisStep], "in the order in which they were tested"]


class Diagnose(TypedDict):
    """Interfaces tested step by step. The exit code is 1 where a step failed."""

    schema: Annotated[Literal["diagnose/1"], FORM]
    interfaces: Annotated[list[Diagnosed], "the one asked for, or all that are enabled"]

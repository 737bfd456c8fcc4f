"""What many documents hold, and the small documents."""

from __future__ import annotations

from typing import Annotated, Literal, TypedDict

#: The meaning of each document's first key.
FORM = "form and version"


class Finding(TypedDict):
    """Something wrong, or worth saying, about one place of the configuration or the machine."""

    severity: Annotated[
        Literal["error", "warning", "info"],
        "`error`: something written in the configuration has no effect; `warning`: it works, perhaps not as meant",
    ]
    code: Annotated[
        str, "kind of finding, stable; [configuration.md](configuration.md) and [checks.md](checks.md) list them"
    ]
    place: Annotated[str, "`PACKAGE.SECTION.OPTION`, as far as it applies"]
    message: Annotated[str, "what is wrong, in words"]
    remedy: Annotated[str, "what would be right, in words; empty where there is nothing to say"]


class _FailureAlways(TypedDict):
    schema: Annotated[Literal["error/1"], FORM]
    error: Annotated[str, "what is wrong, in words, as on standard error"]
    code: Annotated[
        Literal["usage", "config", "kernel", "busy", "waiting", "failed"],
        "`usage`: the command line makes no sense; `config`: a configuration file; `kernel`: the kernel, the daemon or "
        "a program refused; `busy`: the same may work a moment later; `waiting`: a change waits to be confirmed, or "
        "none does where one has to; `failed`: anything else",
    ]


class Failure(_FailureAlways, total=False):
    """Why a command failed. The exit code is 2 for `usage`, else 1; the message is on standard error, too.

    It is one line on standard output, in place of the command's own document or after those it printed before.
    """

    package: Annotated[str, "with `config`: the package, a file in the configuration directory"]
    section: Annotated[str | None, "with `config`: the section; null: it is about the whole file"]
    option: Annotated[str | None, "with `config`: the option; null: it is about the whole section"]
    line: Annotated[int | None, "with `config`: line of the file, from 1; null: not known"]
    command: Annotated[str, "with `kernel` and `busy`: what was tried"]


class Check(TypedDict):
    """What is wrong with the configuration, or probably not meant. The exit code is 1 where a finding has severity
    `error`, and with `--strict` where one has `warning`."""

    schema: Annotated[Literal["check/1"], FORM]
    findings: Annotated[list[Finding], "errors first, then warnings, then what is worth knowing"]


class Changes(TypedDict):
    """What would be done to the kernel."""

    schema: Annotated[Literal["plan/1"], FORM]
    changes: Annotated[list[str], "in words, in order; empty: the kernel is as it should be"]
    findings: Annotated[list[Finding], "about the configuration and the machine"]


class Waiting(TypedDict):
    """A change that is in force, and goes back by itself unless `connbal confirm` keeps it."""

    left: Annotated[float, "seconds until it goes back; 0: that is due"]
    seconds: Annotated[int, "that it was given"]
    until: Annotated[str, "when it goes back, local time, as `2026-12-01T12:30:15+0100`; for people"]
    who: Annotated[str, "made it, in words"]
    what: Annotated[list[str], "was done, in words, of all changes that joined"]


class Applied(TypedDict):
    """What was done to the kernel."""

    schema: Annotated[Literal["apply/1"], FORM]
    changes: Annotated[list[str], "in words, in order; empty: the kernel was as it should be"]
    findings: Annotated[list[Finding], "about the configuration and the machine"]
    waiting: Annotated[Waiting | None, "null: no change waits for its confirmation"]


class Back(TypedDict):
    """What became of the last change that was not kept."""

    time: Annotated[str, "when it went back, local time; for people"]
    why: Annotated[str, "in words"]
    what: Annotated[list[str], "had been done, in words"]
    foreign: Annotated[bool, "somebody else had changed the file meanwhile, and that went back, too"]
    kept: Annotated[list[str], "files that hold what was in the place of what came back"]


class Confirmed(TypedDict):
    """What `connbal confirm` did, and how it is now."""

    schema: Annotated[Literal["confirm/1"], FORM]
    done: Annotated[Literal["kept", "taken back"] | None, "null: with `--status`"]
    what: Annotated[list[str], "had been done by the change that was kept or taken back, in words"]
    waiting: Annotated[Waiting | None, "null: no change waits for its confirmation"]
    last: Annotated[Back | None, "null: there was none since a change was kept"]

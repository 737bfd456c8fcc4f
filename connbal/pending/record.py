"""What a change that waits for its confirmation was made of, as values, as JSON and in words. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connbal.errors import ConnbalError, printable
from connbal.frozen import dataclass

#: Of the record's form; one of another version is not understood.
VERSION = 1
#: Bytes of a file that can be given a way back.
MAX_BYTES = 4 << 20
PACKAGE = re.compile(r"[A-Za-z0-9_-]+")
#: Words that a record keeps of what was done, and characters of each.
WORDS, TEXT = 20, 200


class Waiting(ConnbalError):
    """Something cannot be done while a change waits for its confirmation."""

    kind = "waiting"


@dataclass(frozen=True)
class Moment:
    """When something is. ``uptime`` decides; ``wall`` is for people, who may set that clock as they like."""

    boot: str  #: the kernel's name for its life since the last boot
    uptime: float  #: seconds since that boot, standby included
    wall: float  #: seconds since 1970


@dataclass(frozen=True)
class Former:
    """A file that the change has touched."""

    package: str
    before: str  #: digest of what comes back
    ours: str  #: digest of what the change has made of the file

    @property
    def copy(self) -> str:
        """The name, beside the record, of the file that holds what comes back."""
        return f"{self.package}.before"


@dataclass(frozen=True)
class Record:
    """A change that is in force and waits."""

    name: str  #: tells records apart
    boot: str
    began: float  #: uptime at which it was made
    until: float  #: uptime at which it goes back
    wall: float  #: the same by the clock on the wall, for people only
    seconds: int  #: how long it was given
    who: str  #: made it, in words
    what: tuple[str, ...] = ()  #: was done, in words; of all changes that joined
    files: tuple[Former, ...] = ()
    #: Nothing of connbal's was in the kernel before: that is what comes back.
    nothing: bool = False
    changing: str = ""  #: the package that is about to be written

    def left(self, now: Moment) -> float:
        """Seconds until it goes back, 0 where that is due: after a boot it is due at once."""
        if now.boot != self.boot or now.uptime < self.began:
            return 0.0
        return max(self.until - now.uptime, 0.0)

    def of(self, package: str) -> Former | None:
        """The file of a package; None: the change has not touched it."""
        return next((one for one in self.files if one.package == package), None)

    def having(self, former: Former, what: tuple[str, ...]) -> Record:
        """With another file or with that file as it is now, and with what was done to it. The deadline stays."""
        files = tuple(one for one in self.files if one.package != former.package)
        return replace(self, files=(*files, former), what=shortened((*self.what, *what)), changing=former.package)


@dataclass(frozen=True)
class Back:
    """What became of a change that was not kept."""

    wall: float  #: when, by the clock on the wall
    why: str
    what: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()  #: files that hold what was in the place of what came back
    foreign: bool = False  #: somebody else had changed it meanwhile, too


def digest(data: bytes) -> str:
    """Of a file's content."""
    return hashlib.sha256(data).hexdigest()


def shortened(what: tuple[str, ...]) -> tuple[str, ...]:
    """As many words as a record keeps, the first ones."""
    return tuple(printable(one)[:TEXT] for one in what[:WORDS])


def sentence(record: Record, clock: str, left: float) -> str:
    """What everybody is told who may want to keep it, or to change something else. ``clock``: when it goes back."""
    what = f": {'; '.join(record.what)}" if record.what else ""
    return (
        f"a change waits for its confirmation until {clock} ({int(left + 0.999)} s){what}; "
        "connbal confirm keeps it, connbal confirm --revert takes it back now"
    )


# --- as JSON ----------------------------------------------------------------------------------------------------------


def as_json(value: Record | Back) -> str:
    """As text for a file."""
    data: dict[str, Any] = {name: getattr(value, name) for name in value.__dataclass_fields__}
    if isinstance(value, Record):
        data["files"] = [{name: getattr(one, name) for name in one.__dataclass_fields__} for one in value.files]
    return json.dumps({"version": VERSION, **data}, indent=1) + "\n"


def record(text: str) -> Record | None:
    """A record from its text; None where it is none."""
    data = _parsed(text)
    try:
        files = tuple(Former(*(_text(one[name]) for name in ("package", "before", "ours"))) for one in data["files"])
        if not all(PACKAGE.fullmatch(one.package) for one in files):
            return None
        began, until, wall = (_number(data[name]) for name in ("began", "until", "wall"))
        return Record(
            _text(data["name"]), _text(data["boot"]), began, until, wall, int(_number(data["seconds"])),
            _text(data["who"]), tuple(map(_text, data["what"])), files, data["nothing"] is True,
            _text(data["changing"]),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def back(text: str) -> Back | None:
    """What became of the last change that was not kept, from its text; None where that says nothing."""
    data = _parsed(text)
    try:
        what, kept = (tuple(map(_text, data[name])) for name in ("what", "kept"))
        return Back(_number(data["wall"]), _text(data["why"]), what, kept, data["foreign"] is True)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and data.get("version") == VERSION else {}


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e15:  # neither infinite nor no number
        raise ValueError
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

"""What a part of the router's server answers, and the ways in which ubus says no."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """What a program that asked prints, and its exit status."""

    status: int = 0
    out: str = ""
    err: str = ""


#: libubus' status codes, which its command has as exit status, and its words for them.
_WORDS = {1: "Invalid command", 2: "Invalid argument", 3: "Method not found", 4: "Not found", 5: "No response",
          6: "Permission denied", 7: "Request timed out", 9: "Unknown error"}  # fmt: skip
INVALID_ARGUMENT, NO_METHOD, NOT_FOUND, NO_DATA, PERMISSION_DENIED, TIMED_OUT = 2, 3, 4, 5, 6, 7


def failed(status: int) -> Answer:
    """As the ubus command says that a call failed."""
    return Answer(status, "", f"Command failed: {_WORDS[status]}\n")


def document(value: Any) -> Answer:
    """A JSON document as the ubus command prints it."""
    return Answer(0, json.dumps(value, indent="\t") + "\n")

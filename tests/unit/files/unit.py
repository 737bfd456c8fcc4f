"""The unit for systemd, read."""

from __future__ import annotations

from pathlib import Path

FILE = Path(__file__).parents[3] / "files/lib/systemd/system/connbal.service"


def settings(text: str) -> dict[str, list[str]]:
    """What a unit says: each key's values, in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def capabilities() -> list[str]:
    """What the daemon and its scripts are left with, by the names that setpriv has for them."""
    found = settings(FILE.read_text("utf-8"))["CapabilityBoundingSet"]
    return [name.removeprefix("CAP_").lower() for value in found for name in value.split()]

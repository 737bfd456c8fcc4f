"""Calls of the ubus object ``connbal`` as command lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def arguments(method: str, args: Mapping[str, Any]) -> list[str]:
    """A ubus call of object ``connbal`` as a command line."""
    type_, name = args.get("type"), args.get("name")
    if method in ("status", "check", "apply"):
        return [method, "--json"]
    if method == "list":
        return [type_, "list", "--json"]
    if method == "explain":
        return ["explain", "--json", *(f"--{key}={value}" for key, value in args.items())]
    if method == "set":
        [(option, value)] = args["options"].items()
        return [type_, "set", "--json", f"--{'' if value == '1' else 'no-'}{option}", "--", name]
    if method == "delete":
        return [type_, "delete", "--json", "--", name]
    if method == "move":
        other = args.get("other")
        return ["rule", "move", "--json", f"--{args['place']}" + (f"={other}" if other else ""), "--", name]
    assert method == "setup", method
    return _setup(args["scenario"], dict(args["options"]), args["dry_run"])


def _setup(scenario: str, options: dict[str, Any], dry_run: bool) -> list[str]:
    words: list[str] = []
    if scenario == "failover":
        words = list(options.pop("interfaces"))
    elif scenario == "split":
        words = [f"{name}={share}" for name, share in options.pop("shares").items()]
    flags = ["--json", *(["--dry-run"] if dry_run else [])]
    for key, value in options.items():
        flags += [f"--{key}={one}" for one in (value if isinstance(value, list) else [value])]
    return ["setup", scenario, *flags, "--", *words]

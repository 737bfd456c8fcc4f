"""Configurations for routers of tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Answered by every Internet of a lab.
HOST = "203.0.113.7"

_INTERFACE = """
config interface '{name}'
\toption enabled '{enabled}'
\toption family 'ipv4'
\tlist track_ip '{host}'
\toption timeout '1'
\toption interval '{interval}'
\toption failure_interval '{interval}'
\toption recovery_interval '{interval}'
\toption down '2'
\toption up '2'

config member '{name}_m'
\toption interface '{name}'
\toption metric '1'
\toption weight '1'
"""


def balanced(enabled: Mapping[str, bool], interval: str = "0.2") -> str:
    """All sources in one policy, which all connections use; ``interval`` between probes in seconds."""
    parts = ["config globals 'globals'\n\toption mmx_mask '0x3F00'\n"]
    for name, on in enabled.items():
        parts.append(_INTERFACE.format(name=name, enabled=int(on), host=HOST, interval=interval))
    members = "".join(f"\tlist use_member '{name}_m'\n" for name in enabled)
    parts.append(f"\nconfig policy 'balanced'\n{members}\toption last_resort 'unreachable'\n")
    parts.append("\nconfig rule 'everything'\n\toption dest_ip '0.0.0.0/0'\n\toption use_policy 'balanced'\n")
    return "".join(parts)


def modems(profiles: Sequence[tuple[int, bool]]) -> str:
    """ROOter's package `modem`: for each modem the N of the wanN it uses, 0 for its own number, and its ``lb``."""
    parts = []
    for number, (inter, lb) in enumerate(profiles, 1):
        parts.append(f"config modeminfo 'modeminfo{number}'\n\toption inter '{inter}'\n\toption lb '{int(lb)}'\n")
    return "\n".join(parts)

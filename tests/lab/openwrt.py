"""What an OpenWrt router would have around connbal: /etc/config/network, ubus, its choice of iptables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.lab.node import LabError
from tests.lab.topology import Source, Spec

_TOOLS = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")

_UBUS = """#!/bin/sh
# Answers what netifd would, from the lab's files; everything else is "not found", as ubus puts it.
while [ "${1#-}" != "$1" ]; do
	case "$1" in -t|-s) shift 2;; *) shift;; esac
done
case "$1 $2 $3" in
	"list  ") echo network.interface; exit 0;;
	"call network.interface dump") cat '@DIR@/dump.json'; exit 0;;
	"call network.interface."*" status")
		file='@DIR@'/"${2#network.interface.}.json"
		[ -f "$file" ] && { cat "$file"; exit 0; };;
esac
echo "Command failed: Not found" >&2
exit 4
"""


def network_config(spec: Spec) -> str:
    """The lab as a UCI package `network`."""
    parts = [_section("interface", "loopback", device="lo", proto="static", ipaddr="127.0.0.1", netmask="255.0.0.0")]
    lans = ("lan", "guest") if spec.guest else ("lan",)
    for number, lan in enumerate(lans, 1):
        ports = [client.port for client in spec.clients.values() if client.lan == lan]
        parts.append(_section("device", "", name=f"br-{lan}", type="bridge", ports=ports))
        parts.append(
            _section(
                "interface",
                lan,
                device=f"br-{lan}",
                proto="static",
                ipaddr=f"192.168.{number}.1",
                netmask="255.255.255.0",
                ip6addr=f"fd0{number}::1/64",
            )
        )
    for source in spec.links.values():
        parts.append(
            _section(
                "interface",
                source.name,
                device=source.device,
                proto="static",
                ipaddr=source.address4,
                netmask="255.255.255.0",
                gateway=source.gateway4,
                ip6addr=f"{source.address6}/64",
                ip6gw=source.gateway6,
                metric=str(source.metric),
            )
        )
        parts.append(_section("interface", source.name6, device=f"@{source.name}", proto="dhcpv6"))
    return "\n".join(parts)


def _section(kind: str, section: str, /, **options: str | list[str]) -> str:
    """One section in UCI's own format."""
    lines = [f"config {kind} '{section}'" if section else f"config {kind}"]
    for option, value in options.items():
        if isinstance(value, list):
            lines += [f"\tlist {option} '{item}'" for item in value]
        else:
            lines.append(f"\toption {option} '{value}'")
    return "\n".join(lines) + "\n"


def interfaces(spec: Spec, up: dict[str, bool]) -> list[dict[str, Any]]:
    """What `ubus call network.interface dump` lists; `up` is per source, absent ones are up."""
    found = [_interface("loopback", "lo", True, ("127.0.0.1", 8), None)]
    for number, lan in enumerate(("lan", "guest") if spec.guest else ("lan",), 1):
        found.append(_interface(lan, f"br-{lan}", True, (f"192.168.{number}.1", 24), (f"fd0{number}::1", 64)))
    for source in spec.links.values():
        here = up.get(source.name, True)
        entry = _interface(source.name, source.device, here, (source.address4, 24), (source.address6, 64))
        entry["metric"] = source.metric
        half = _interface(source.name6, source.device, here, None, (source.address6, 64))
        half["metric"] = source.metric
        if here:
            entry["route"], half["route"] = _routes(source), _routes(source)[1:]
        found += [entry, half]
    return found


def _interface(
    name: str, device: str, up: bool, ipv4: tuple[str, int] | None, ipv6: tuple[str, int] | None
) -> dict[str, Any]:
    """One interface; one that is down has neither l3_device nor addresses, as with netifd."""
    entry: dict[str, Any] = {
        "interface": name,
        "up": up,
        "pending": False,
        "available": up,
        "autostart": True,
        "dynamic": False,
        "proto": "static",
        "device": device,
    }
    if up:
        entry |= {
            "uptime": 60,
            "l3_device": device,
            "metric": 0,
            "ipv4-address": [{"address": ipv4[0], "mask": ipv4[1]}] if ipv4 else [],
            "ipv6-address": [{"address": ipv6[0], "mask": ipv6[1]}] if ipv6 else [],
            "ipv6-prefix": [],
            "ipv6-prefix-assignment": [],
            "route": [],
            "dns-server": [],
            "dns-search": [],
            "inactive": {"ipv4-address": [], "ipv6-address": [], "route": [], "dns-server": [], "dns-search": []},
        }
    entry["data"] = {}
    return entry


def _routes(source: Source) -> list[dict[str, Any]]:
    """The default routes of one source in netifd's words."""
    return [
        {"target": "0.0.0.0", "mask": 0, "nexthop": source.gateway4, "source": f"{source.address4}/32"},
        {"target": "::", "mask": 0, "nexthop": source.gateway6, "metric": source.metric, "source": "::/0"},
    ]


def write_ubus(spec: Spec, directory: Path, bin_dir: Path, up: dict[str, bool]) -> None:
    """An executable `ubus` in `bin_dir` that answers from JSON files in `directory`."""
    directory.mkdir(exist_ok=True)
    listing = interfaces(spec, up)
    for entry in listing:
        status = {key: value for key, value in entry.items() if key != "interface"}
        _replace(directory / f"{entry['interface']}.json", json.dumps(status, indent="\t") + "\n")
    _replace(directory / "dump.json", json.dumps({"interface": listing}, indent="\t") + "\n")
    script = bin_dir / "ubus"
    if not script.exists():
        _replace(script, _UBUS.replace("@DIR@", str(directory)), 0o755)


def _replace(file: Path, text: str, mode: int = 0o644) -> None:
    """Write by rename: a reader sees the old text or the new."""
    scratch = file.with_suffix(".new")
    scratch.write_text(text)
    scratch.chmod(mode)
    scratch.rename(file)


def tool(name: str, variant: str) -> str:
    """Path of `iptables-nft-save` and the like, from `iptables-save` and "nft". Raises LabError."""
    family, _, rest = name.partition("-")
    wanted = "-".join(part for part in (family, variant, rest) if part)
    path = shutil.which(wanted)
    if path is None:
        raise LabError(f"{wanted} is not installed")
    return path


def write_xtables(variant: str, bin_dir: Path) -> None:
    """Links named `iptables` and so on, so that programs in the router use the lab's variant."""
    for name in _TOOLS:
        # The multi-call binary chooses by the name it is called by; resolve() drops the variant's name.
        (bin_dir / name).symlink_to(Path(tool(name, variant)).resolve())

"""What the real mwan3 2.12.2 left in a kernel, as files of ``tests/vectors/mwan3`` hold it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).resolve().parents[2] / "vectors" / "mwan3"
NAMES = tuple(sorted(path.stem for path in DIRECTORY.glob("*.json")))

#: Rules the kernel has by itself.
_OWN = ("0:", "32766:", "32767:")
#: Tables from here on are not interfaces' in any file.
_LAST_INTERFACE = 100


@dataclass(frozen=True)
class Vector:
    """One file."""

    name: str
    data: Mapping[str, Any]

    @staticmethod
    def load(name: str) -> Vector:
        return Vector(name, json.loads((DIRECTORY / f"{name}.json").read_text()))

    @property
    def config(self) -> str:
        return str(self.data["config"])

    @cached_property
    def devices(self) -> tuple[str, ...]:
        """The router's devices, the LAN's first."""
        found = (entry["l3_device"] for entry in self.data["netifd"]["interface"])
        return tuple(dict.fromkeys(found))

    @property
    def mask(self) -> int:
        found = re.search(r"option mmx_mask '(\w+)'", self.config)
        return int(found[1], 16) if found else 0x3F00

    # --- the machine, as it was before mwan3 ----------------------------------------------------------------------

    def environment(self, version: int) -> Iterator[str]:
        """Lines for ``ip -batch``: addresses, main table, and the tables that are nobody's interface."""
        yield from self._addresses4() if version == 4 else self._addresses6()
        for line in self.main(version):
            if line.startswith("default"):
                yield f"route add {line}"
        for table, lines in self.tables(version).items():
            if table > _LAST_INTERFACE:
                yield from (f"route add {line} table {table}" for line in lines)

    def _addresses4(self) -> Iterator[str]:
        for line in self.main(4):
            if " src " in line:
                words = line.split()
                length = words[0].partition("/")[2]
                yield f"addr add {words[-1]}/{length} dev {words[2]}"

    def _addresses6(self) -> Iterator[str]:
        listed = {
            item["address"]: (entry["l3_device"], item["mask"])
            for entry in self.data["netifd"]["interface"]
            for item in entry["ipv6-address"]
        }
        for line in self.main(6):
            words = line.split()
            if words[0].endswith("::/64") and not words[0].startswith("fe80"):
                prefix = words[0].removesuffix("/64")
                address = next((one for one in listed if one.startswith(prefix)), f"{prefix}1")
                yield f"addr add {address}/64 dev {words[2]} nodad"

    def main(self, version: int) -> list[str]:
        return [line.strip() for line in self.data[f"ip{version}-route-main"] if "lan0" not in line]

    def foreign_sets(self) -> str:
        """What ``ipset restore`` needs for the sets that are not mwan3's."""
        return self._sets(lambda name: not name.startswith("mwan3_"))

    # --- what mwan3 made ------------------------------------------------------------------------------------------

    def own_sets(self) -> str:
        return self._sets(lambda name: name.startswith("mwan3_"))

    def _sets(self, wanted: Any) -> str:
        lines = [line for line in self.data["ipset"] if wanted(line.split()[1])]
        lines.sort(key=lambda line: not line.startswith("create"))
        return "".join(f"{line}\n" for line in lines)

    def mangle(self, version: int) -> str:
        return "\n".join([*self.data[f"{'ip' if version == 4 else 'ip6'}tables-mangle"], ""])

    def rules(self, version: int) -> list[str]:
        """As ``ip rule`` prints them, those of the kernel left out."""
        return [line.strip() for line in self.data[f"ip{version}-rule"] if not line.startswith(_OWN)]

    def tables(self, version: int) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        for line in self.data[f"ip{version}-route-tables"]:
            if line.startswith("# table "):
                lines = found.setdefault(int(line.split()[-1]), [])
            else:
                lines.append(line.strip())
        return found

    def policy_routing(self, version: int) -> Iterator[str]:
        """Lines for ``ip -batch``: mwan3's rules and tables."""
        for line in self.rules(version):
            priority, _, rest = line.partition(":")
            yield f"rule add pref {priority} {rest.strip()}"
        for table, lines in self.tables(version).items():
            if table <= _LAST_INTERFACE:
                # A gateway has to be reachable first.
                for line in sorted(lines, key=lambda line: "via" in line):
                    yield f"route add {line} table {table}"

"""How many packets and new connections a second the router forwards, by number of rules and interfaces."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench.packets.measure import FULL, SHORT, figures
from tests.bench.results import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.packets", description=__doc__)
    how = parser.add_mutually_exclusive_group()
    how.set_defaults(effort=FULL)
    how.add_argument("--short", dest="effort", action="store_const", const=SHORT, help="just to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample too")
    options = parser.parse_args()
    found = figures(options.effort)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps({"figures": [figure.as_json() for figure in found]}, indent=1) + "\n")
    return int(any(figure.missed for figure in found))


if __name__ == "__main__":
    sys.exit(main())

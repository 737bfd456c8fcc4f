"""``python -m tests.netns.daemon.soak``."""

from __future__ import annotations

import argparse

from tests.netns.daemon.soak.run import soak


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=soak.__doc__, formatter_class=plain)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--edits", action="store_true", help="edits alone, close after each other")
    options = parser.parse_args()
    soak(options.seconds, options.seed, edits=options.edits)


if __name__ == "__main__":
    main()

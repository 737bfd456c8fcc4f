"""``python -m tests.fuzz [TARGET...]``: fuzz, for as long as wanted."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from tests.fuzz import run
from tests.fuzz.target import TARGETS, load


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz connbal, guided by coverage.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=float, default=10, help="for each target; default 10")
    parser.add_argument("--seed", type=int, default=1, help="another one takes another way")
    parser.add_argument("--input", type=Path, help="only this input, with the traceback of what it finds")
    parser.add_argument("--work", type=Path, help="a directory where new inputs stay, to go on from the next time")
    parser.add_argument("--tell", action="store_true", help="show what libFuzzer says")
    given = parser.parse_args()
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    names = given.targets or list(TARGETS)
    if given.input is not None:
        for name in names:
            load(name).check(given.input.read_bytes())
        return 0
    if not run.GUIDED:
        parser.error("atheris is not installed: pip install --only-binary=:all: atheris, if this Python has a wheel")
    return max([_fuzz(name, given) for name in names])


def _fuzz(name: str, given: argparse.Namespace) -> int:
    work = given.work / name if given.work is not None else None
    ran = run.guided(name, seconds=given.seconds, seed=given.seed, work=work, tell=given.tell)
    if ran.crash is None:
        print(f"{name:16} {ran.runs:>10,} runs, {ran.coverage:,} edges", flush=True)
        return 0
    path = Path(f"finding-{name}-{hashlib.sha1(ran.crash, usedforsecurity=False).hexdigest()[:8]}")
    path.write_bytes(ran.crash)
    print(ran.said[-4000:], file=sys.stderr)
    print(f"{name:16} FOUND SOMETHING: python -m tests.fuzz {name} --input {path}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())

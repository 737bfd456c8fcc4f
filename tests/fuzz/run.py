"""Running a target: over what is kept for it, guided by coverage, or blindly."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import mutate
from tests.fuzz.target import HERE, Target, load

ROOT = HERE.parents[1]
#: Seconds that one input may take on a machine that does little else, and MiB the process: more is a finding.
PATIENCE, MEMORY = 10, 1024
#: Whether this Python has atheris.
GUIDED = importlib.util.find_spec("atheris") is not None

_RUNS = re.compile(r"^#(\d+)\s", re.MULTILINE)
_COVERAGE = re.compile(r"\bcov: (\d+)")


@dataclass(frozen=True)
class Ran:
    """What came of it. ``crash``: the input that found something; ``said``: what was said of it."""

    runs: int
    coverage: int = 0  #: edges of the program that were met; 0: not counted
    crash: bytes | None = None
    said: str = ""


def kept(target: Target) -> Ran:
    """Over every kept input. Raises what the target raises."""
    found = target.inputs()
    for data in found:
        target.check(data)
    return Ran(len(found))


def blind(target: Target, runs: int, seed: int = 1) -> Ran:
    """Over inputs that are made of kept ones by chance. Raises what the target raises, the input beside it."""
    for data in mutate.inputs(target, runs, seed):
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{target.name} with the input {data!r}: {error!r}") from error
    return Ran(runs)


def guided(
    name: str, *, runs: int = 0, seconds: float = 0, seed: int = 1, work: Path | None = None, tell: bool = False,
    patience: int = PATIENCE,
) -> Ran:  # fmt: skip
    """Guided by coverage, in a process of its own, until ``runs`` or ``seconds`` are over or something is found.

    Parameters
    ----------
    work: a directory for the inputs that were new, to go on from; else they are thrown away.
    tell: show what libFuzzer prints while it runs.
    patience: seconds that one input may take.
    """
    with tempfile.TemporaryDirectory(prefix="connbal-fuzz-") as made:
        begin, findings, grown = Path(made) / "begin", Path(made) / "findings", work or Path(made) / "grown"
        for directory in (begin, findings, grown):
            directory.mkdir(parents=True, exist_ok=True)
        target = load(name)
        for number, data in enumerate(target.inputs()):
            (begin / f"{number:04}").write_bytes(data)
        words = Path(made) / "tokens"
        words.write_text("".join(f'"{_escaped(token)}"\n' for token in (*target.tokens, b"\0")), "ascii")
        options = [
            f"-seed={seed}", f"-max_len={target.longest}", f"-timeout={patience}", f"-rss_limit_mb={MEMORY}",
            f"-artifact_prefix={findings}/", f"-dict={words}",
            *([f"-atheris_runs={runs}"] if runs else []), *([f"-max_total_time={round(seconds)}"] if seconds else []),
            str(grown), str(begin),
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.child", name, *options],
            cwd=ROOT, text=True, errors="replace", check=False,
            stdout=None if tell else subprocess.PIPE, stderr=None if tell else subprocess.STDOUT,
        )  # fmt: skip
        said = done.stdout or ""
        crash = next((path.read_bytes() for path in sorted(findings.iterdir())), None)
        if crash is None and done.returncode:
            crash = b""
        counted = [*map(int, _RUNS.findall(said)), runs if crash is None else 0]
        return Ran(max(counted), max(map(int, _COVERAGE.findall(said)), default=0), crash, said)


def _escaped(token: bytes) -> str:
    """For a dictionary of libFuzzer."""
    return "".join(chr(one) if 32 <= one < 127 and one not in b'"\\' else f"\\x{one:02x}" for one in token)

"""Goes through luci-app-mwan3, and through this project's page, in the real LuCI.

DIR is a checkout of LuCI, of whatever branch. Nothing in it is changed, and nothing of it is copied but for the one
script of luci-app-mwan3, which is put into a router of the tests. Needs root.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import Lab
from tests.lab.node import LabError
from tests.luci.browser import Browser, BrowserError
from tests.luci.stock import own, walk
from tests.luci.stock.page import Page
from tests.luci.stock.server import Stock
from tests.router.configs import balanced
from tests.router.router import Router, stage

HELPER = "usr/libexec/luci-mwan3"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, 1 where a step failed."""
    options = _parser().parse_args(argv)
    app: Path = options.luci / "applications/luci-app-mwan3"
    if not (app / "htdocs").is_dir():
        print(f"error: {app} has no pages in JavaScript; give a checkout of openwrt-22.03 or newer", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="connbal-stock-") as scratch:
        root = Path(scratch) / "root"
        stage(root)
        shutil.copy(app / "root" / HELPER, root / HELPER)
        with Lab(("wan", "wan1")) as lab, Router(lab, root) as router:
            for name in ("luci", "wireless"):
                router.path(f"/etc/config/{name}").touch()
            router.configure(balanced({"wan": True, "wan1": True}))
            router.run(["/etc/init.d/mwan3", "start"])
            for name in ("wan", "wan1"):
                status = f"/var/run/mwan3track/{name}/STATUS"
                router.wait(lambda status=status: router.read(status) == "online", f"{name} to be online")
            with Stock(options.luci, router) as stock, Browser() as browser:
                browser.size(1000, 900)
                failed = _walk({**walk.STEPS, **own.STEPS}, Page(stock, browser, options.pictures), router, options)
            with Stock(options.luci, router, write=False) as stock, Browser() as browser:
                browser.size(1000, 900)
                page = Page(stock, browser, options.pictures)
                failed += _walk({"a session that may only look": own.readonly}, page, router, options)
                return 1 if failed else 0


def _walk(steps: Mapping[str, walk.Step], page: Page, router: Router, options: argparse.Namespace) -> int:
    """Does them in order and prints what came of each; the number of those that failed."""
    failed = 0
    for words, run in steps.items():
        if options.only and options.only not in words:
            continue
        began = time.monotonic()
        try:
            run(page, router)
            why = ""
        except (AssertionError, BrowserError, LabError) as error:
            why = str(error) or repr(error)
            failed += 1
            page.picture(f"failed-{failed}")
        print(f"{'FAILED' if why else 'works '}  {time.monotonic() - began:5.1f} s  {words}", flush=True)
        for line in [*why.splitlines()[:40], *page.browser.complaints()]:
            print(f"          {line[:300]}")
        if options.calls:
            print("".join(f"          {line}\n" for line in page.asked()), end="")
            page.stock.rpcd.calls.clear()
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.luci.stock", description=__doc__)
    parser.add_argument("--luci", type=Path, required=True, metavar="DIR", help="a checkout of LuCI")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="put pictures of the pages there")
    parser.add_argument("--calls", action="store_true", help="print the calls of each step with their arguments")
    parser.add_argument("--only", metavar="WORDS", help="the steps that have these words")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""A headless Chromium, driven over the WebDriver protocol by chromedriver. Needs root."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The driver, which dies with these tests, and everything that it has started dies with it.
DRIVER = (
    "setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
    "chromedriver", "--port=0",
)  # fmt: skip
#: Seconds that anything may take on a slow and busy machine.
PATIENCE = 30.0
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class BrowserError(Exception):
    """What the driver says is wrong."""


class Element:
    """An element of the page, as the driver knows it."""

    def __init__(self, browser: Browser, reference: str) -> None:
        self._browser, self.reference = browser, reference

    def click(self) -> None:
        self._browser.call("POST", f"/element/{self.reference}/click", {})

    def type(self, text: str) -> None:
        self._browser.call("POST", f"/element/{self.reference}/clear", {})
        self._browser.call("POST", f"/element/{self.reference}/value", {"text": text})

    def press(self, keys: str) -> None:
        """Keys where the element has the focus; special ones as WebDriver's code points."""
        self._browser.call("POST", f"/element/{self.reference}/value", {"text": keys})

    @property
    def centre(self) -> tuple[float, float]:
        """In the window, once it is scrolled into view."""
        script = "arguments[0].scrollIntoView({block: 'nearest'}); const b = arguments[0].getBoundingClientRect();"
        x, y = self._browser.run(f"{script} return [b.left + b.width / 2, b.top + b.height / 2];", self)
        return float(x), float(y)


class Browser:
    """One browser with one window and an empty profile. A context manager."""

    def __init__(self) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="connbal-chromium-", ignore_cleanup_errors=True)
        self._log = open(Path(self._profile.name) / "driver.log", "w+")  # noqa: SIM115  closed in close
        self._driver = subprocess.Popen(DRIVER, stdout=self._log, stderr=self._log)
        self._base = ""
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        port = self._wait_for_port()
        options = {
            "args": [*FLAGS, f"--user-data-dir={self._profile.name}/profile"],
            "prefs": {"credentials_enable_service": False},
        }
        wanted = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options,
                                  "goog:loggingPrefs": {"browser": "ALL"}}}  # fmt: skip
        self._base = f"http://127.0.0.1:{port}/session"
        self._base += "/" + self.call("POST", "", {"capabilities": wanted})["sessionId"]

    def _wait_for_port(self) -> str:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._driver.poll() is None:
            for line in Path(self._log.name).read_text().splitlines():
                if "successfully on port " in line:
                    return line.rpartition(" ")[2].rstrip(".")
            time.sleep(0.05)
        raise BrowserError(f"chromedriver did not start: {Path(self._log.name).read_text()}")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and its driver."""
        if self._driver.poll() is None:
            with contextlib.suppress(BrowserError, OSError):
                if self._base:
                    self.call("DELETE", "", None)
            self._driver.kill()
        self._driver.wait(PATIENCE)
        self._log.close()
        self._profile.cleanup()

    def call(self, method: str, path: str, body: Any) -> Any:
        """One request of the protocol. Raises BrowserError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE * 2) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            value = json.load(error)["value"]
            raise BrowserError(f"{value['error']}: {value['message']}") from None

    # --- the page ------------------------------------------------------------------------------------------------

    def open(self, address: str) -> None:
        self.call("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """Run a function's body in the page; a promise is waited for."""
        given = [{_ELEMENT: one.reference} if isinstance(one, Element) else one for one in arguments]
        return self.call("POST", "/execute/sync", {"script": script, "args": given})

    def find(self, selector: str) -> Element:
        """The first element of a CSS selector, waited for."""
        found: dict[str, str] = self.wait(lambda: self._look(selector), f"an element {selector}")
        return Element(self, found[_ELEMENT])

    def _look(self, selector: str) -> Any:
        found = self.call("POST", "/elements", {"using": "css selector", "value": selector})
        return found[0] if found else None

    def text(self, selector: str) -> str:
        """The text of an element, hidden parts too; empty where there is none."""
        return str(self.run("const e = document.querySelector(arguments[0]); return e ? e.textContent : '';", selector))

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        """What ``look`` finds once it is true."""
        end = time.monotonic() + PATIENCE
        while not (found := look()):
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}; the page: {self.text('body')}")
            time.sleep(0.05)
        return found

    def wait_for(self, selector: str, text: str) -> str:
        """Wait until the text is in the element, and return all of its text."""
        self.wait(lambda: text in self.text(selector), f"{text!r} in {selector}")
        return self.text(selector)

    def drag(self, start: Element, end: tuple[float, float], meanwhile: Callable[[], None] | None = None) -> None:
        """With the mouse, in small steps. ``meanwhile`` is called before the button is let go."""
        x, y = start.centre
        move = [{"type": "pointerMove", "x": round(a), "y": round(b), "duration": 50} for a, b in
                ((x, y), (x + 3, y + 3), ((x + end[0]) / 2, (y + end[1]) / 2), end)]  # fmt: skip
        self._pointer([move[0], {"type": "pointerDown", "button": 0}, *move[1:]])
        if meanwhile:
            meanwhile()
        self._pointer([move[-1], {"type": "pointerUp", "button": 0}])

    def _pointer(self, actions: list[dict[str, Any]]) -> None:
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        self.call("POST", "/actions", {"actions": [pointer]})

    def size(self, width: int, height: int) -> None:
        """Of the window's inside."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._cdp("Emulation.setDeviceMetricsOverride", metrics)

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        told = self._cdp("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(told["data"]))

    def _cdp(self, command: str, parameters: dict[str, Any]) -> Any:
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def complaints(self) -> list[str]:
        """What the page has written to the console since the last time."""
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"})]

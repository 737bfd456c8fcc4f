"""The router's server: stands for procd, netifd, rpcd and libuci. Programs ask it as lib/router/ask.sh says."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

from answers import Answer
from bus import Bus
from netifd import Netifd
from services import Services
from ucistore import Uci

DIRECTORY = "/tmp/router"
#: Characters from which an answer is in a file: the shell reads byte by byte.
LONG = 4096
_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}


class Server:
    """Each question in a thread of its own."""

    def __init__(self) -> None:
        self._services, self._uci = Services(), Uci()
        self._bus = Bus(self._services, Netifd())

    def serve(self) -> None:
        """Answer until the end."""
        pipe = f"{DIRECTORY}/requests"
        os.mkfifo(f"{DIRECTORY}/pause")
        os.mkfifo(pipe)
        descriptor = os.open(pipe, os.O_RDWR)  # for both: the end of one who asks is not the end of all
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        with os.fdopen(descriptor) as requests:
            for line in requests:
                if line.strip().isdigit():
                    threading.Thread(target=self._serve, args=(line.strip(),), daemon=True).start()

    def _serve(self, who: str) -> None:
        here = f"{DIRECTORY}/{who}"
        with open(f"{here}.ask", encoding="utf-8", errors="surrogateescape") as file:
            room, *words = file.read().split("\0")[:-1]
        text = ""
        with contextlib.suppress(FileNotFoundError), open(f"{here}.in") as file:
            text = file.read()
            os.unlink(f"{here}.in")
        os.unlink(f"{here}.ask")
        answer = self._answer(room, words, text)
        os.mkfifo(f"{here}.making")
        os.rename(f"{here}.making", f"{here}.reply")
        with contextlib.suppress(OSError), open(f"{here}.reply", "w", **_TEXT) as file:
            os.unlink(f"{here}.reply")  # whoever asked has it open by now
            file.write(f"{answer.status} {answer.err.count(chr(10))} {int(len(answer.out) > LONG)}\n{answer.err}")
            if len(answer.out) > LONG:
                with open(f"{here}.out", "w", **_TEXT) as whole:
                    whole.write(answer.out)
            else:
                file.write(answer.out)

    def _answer(self, room: str, words: list[str], text: str) -> Answer:
        try:
            if room == "uci":
                return self._uci.ask(words, text)
            if room == "web":
                return self._bus.web(words)
            return self._services.ask(words) if room == "procd" else self._bus.ask(words)
        except Exception as error:  # whoever asked must not wait for ever; what went wrong is for the test to see
            return Answer(99, "", f"router: {type(error).__name__}: {error}\n")


if __name__ == "__main__":
    Server().serve()

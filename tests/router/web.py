"""Calls of pages: by uhttpd and rpcd's sessions, as users with one right each."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.router.router import Router

#: How many calls of hostile users are tried, and which.
CALLS = int(os.environ.get("CONNBAL_HOSTILE", "100"))
SEED = int(os.environ.get("CONNBAL_SEED", "1"))
#: The session of who has not logged in.
NOBODY = "0" * 32
#: One login for each right that a group of the packages has, and one for none.
LOGINS = """
config login
	option username 'reader'
	list read 'connbal'

config login
	option username 'looker'
	list read 'luci-app-connbal'

config login
	option username 'writer'
	list write 'connbal'

config login
	option username 'clicker'
	list write 'luci-app-connbal'

config login
	option username 'stranger'
	list read 'luci-base'
	list read '!connbal'
"""


def web(router: Router, session: str, name: str, method: str, args: Any) -> tuple[int, Any]:
    """A page's call: ubus' status, and the answer."""
    text = json.dumps(args)
    if len(text) > 100_000:  # more than a program's argument can have
        text = json.dumps({"type": text[:50_000]})
    done = router.run(["/usr/libexec/web", session, name, method, text], check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout else None


def login(router: Router, user: str) -> tuple[str, dict[str, dict[str, list[str]]]]:
    """A session, and what it was granted: scope -> object -> functions."""
    status, said = web(router, NOBODY, "session", "login", {"username": user, "password": ""})
    assert status == 0
    return said["ubus_rpc_session"], said["acls"]

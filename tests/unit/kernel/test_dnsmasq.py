"""What is found out of the installed dnsmasq."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbal.errors import KernelError
from connbal.kernel import dnsmasq
from connbal.kernel.api import TransientError
from connbal.kernel.dnsmasq import Build, parse_version

VERSION = "Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley\nCompile time options: {}\n\nThis software\n"
PLAIN = "IPv6 GNU-getopt no-DBus UBus no-i18n no-IDN DHCP no-DHCPv6 no-Lua TFTP no-conntrack no-ipset no-nftset no-auth"


@pytest.mark.parametrize(
    ("options", "build"),
    [
        (PLAIN, Build(False, False)),
        (PLAIN.replace("no-nftset", "nftset"), Build(False, True)),
        (PLAIN.replace("no-ipset", "ipset"), Build(True, False)),
        ("IPv6 DHCP ipset auth", Build(True, False)),
    ],
)
def test_versions(options: str, build: Build) -> None:
    assert parse_version(VERSION.format(options)) == build


@pytest.mark.parametrize("text", ["", "busybox", "ipset", "x Compile time options: ipset"])
def test_what_says_nothing(text: str) -> None:
    assert parse_version(text) is None


def test_the_one_that_is_installed() -> None:
    assert dnsmasq.build() == Build(ipset=True, nftset=True)


def test_none_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnsmasq.programs, "find", lambda program: None)
    assert dnsmasq.build() is None


def script(tmp_path: Path, text: str, mode: int = 0o755) -> str:
    path = tmp_path / "dnsmasq"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_whose_script_it_is(tmp_path: Path) -> None:
    assert not dnsmasq.reads_uci(str(tmp_path / "nothing"))
    assert not dnsmasq.reads_uci(str(tmp_path))
    assert not dnsmasq.reads_uci(script(tmp_path, "#!/bin/sh\n# /etc/rc.common\n"))
    assert dnsmasq.reads_uci(script(tmp_path, "#!/bin/sh /etc/rc.common\n"))
    assert not dnsmasq.reads_uci(script(tmp_path, "#!/bin/sh /etc/rc.common\n", 0o644))


def test_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dnsmasq.restart(script(tmp_path, f"#!/bin/sh\necho \"$@\" > '{tmp_path}/told'\n"))
    assert (tmp_path / "told").read_text() == "restart\n"
    with pytest.raises(KernelError, match="no such interface"):
        dnsmasq.restart(script(tmp_path, "#!/bin/sh\necho no such interface >&2\nexit 1\n"))
    monkeypatch.setattr(dnsmasq, "_RESTART_TIMEOUT", 0.2)
    with pytest.raises(TransientError, match="no answer"):
        dnsmasq.restart(script(tmp_path, "#!/bin/sh\nsleep 60\n"))

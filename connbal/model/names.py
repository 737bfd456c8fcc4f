"""Names of chains and sets: bounded in length, never colliding, readable where they fit.

UCI names hold letters, digits and ``_`` only, so ``.`` joins parts and ``~`` marks a shortened name without ever
meeting a name that somebody chose.
"""

from __future__ import annotations

#: UCI package that mwan3 and connbal share.
PACKAGE = "mwan3"

#: XT_EXTENSION_MAXNAMELEN less the final NUL: what iptables-legacy takes; iptables-nft keeps to it too.
MAX_CHAIN = 28
#: IPSET_MAXNAMELEN less the final NUL.
MAX_SET = 31
#: LOG --log-prefix takes 29 characters.
MAX_LOG_PREFIX = 29

_DIGEST = 8


def bounded(prefix: str, *parts: str, limit: int) -> str:
    """``prefix`` and ``parts`` joined with dots, or, where that is longer than ``limit``, shortened to a name that
    keeps what fits and ends in ``~`` and 8 hexadecimal digits of a digest over all parts.
    """
    name = prefix + ".".join(parts)
    if len(name) <= limit:
        return name
    import hashlib  # which costs a few milliseconds, and is for long names only

    digest = hashlib.sha1("\0".join(parts).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return f"{name[: limit - _DIGEST - 1]}~{digest[:_DIGEST]}"


def chain(kind: str, *parts: str) -> str:
    """A chain's name, such as ``mwan3_policy_balanced`` (mwan3's own form wherever it fits)."""
    return bounded(f"mwan3_{kind}_", *parts, limit=MAX_CHAIN)


def ipset(kind: str, *parts: str) -> str:
    """A set's name, such as ``mwan3_connected_ipv4``. One character stays free for building it beside (``-``)."""
    return bounded(f"mwan3_{kind}_", *parts, limit=MAX_SET - 1)


def label(name: str, limit: int = 64) -> str:
    """A name for a comment or log line: shortened, and never more than plain visible ASCII without quotes."""
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "_.-@[]~") else "?" for char in name)
    return plain if len(plain) <= limit else f"{plain[: limit - 1]}~"

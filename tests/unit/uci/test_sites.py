"""Sections ``ipset`` of package ``dhcp``: what they say, what is wrong with them, and changing them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import UsageError
from connbal.model.config import Config, Family, Rule
from connbal.model.facts import SetDeclaration
from connbal.uci import Editor, Package, export, parse, sites, sites_edit
from connbal.uci.sites import Site
from tests.fakes.build import config

V4, V6 = Family.IPV4, Family.IPV6


def package(text: str, name: str = "dhcp") -> Package:
    return parse(text.encode("utf-8", "surrogateescape"), name)


def section(*lines: str, name: str = "s") -> str:
    return f"config ipset '{name}'\n" + "".join(f"\t{line}\n" for line in lines)


def one(*lines: str) -> Site:
    [site] = sites.sites(package(section(*lines)))
    return site


def codes(text: str) -> list[tuple[str, str]]:
    return [(finding.code, finding.place) for finding in sites.findings(package(text))]


# --- what a section says ----------------------------------------------------------------------------------------------


def test_a_section_as_luci_writes_it() -> None:
    site = one("list name 'tube'", "list domain 'youtube.com'", "list domain 'ytimg.com'", "option table 'fw4'")
    assert site == Site("s", False, (("tube", V4),), ("youtube.com", "ytimg.com"))
    assert (site.name, site.family) == ("tube", "ipv4")
    assert site.conf_line() == "ipset=/youtube.com/ytimg.com/tube"


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ((), V4),
        (("option family '4'",), V4),
        (("option family '6'",), V6),
        (("option table_family 'ip6'",), V6),
        (("option table_family 'inet'",), V4),
        (("option table_family 'inet'", "option family '6'"), V6),
        (("option family 'martian'",), V4),
        (("list family '6'",), V4),
    ],
)
def test_the_family_by_the_options(options: tuple[str, ...], family: Family) -> None:
    assert one("list name 'tube'", "list domain 'a.b'", *options).sets == (("tube", family),)


@pytest.mark.parametrize(
    ("name", "family"),
    [("tube6", V6), ("tube4", V4), ("tube_6", V6), ("a-6-b", V6), ("6tube", V6), ("tube46", V4), ("tube16", V4)],
)
def test_the_family_by_the_name(name: str, family: Family) -> None:
    """As the init script takes the hint."""
    assert one(f"list name '{name}'", "list domain 'a.b'").sets == ((name, family),)
    assert one(f"list name '{name}'", "list domain 'a.b'", "option family '4'").sets == ((name, V4),)


def test_two_sets_that_belong_together() -> None:
    site = one("list name 'tv4'", "list name 'tv46'", "list domain 'a.b'", "option connbal_family 'any'")
    assert site.sets == (("tv4", V4), ("tv46", V6))
    assert site.paired
    assert site.family == "any"
    assert site.conf_line() == "ipset=/a.b/tv4,tv46"
    assert site.conf_line("nftset") == "nftset=/a.b/tv4,tv46"


def test_what_is_no_list_is_not_seen_by_dnsmasq() -> None:
    site = one("option name 'tube'", "option domain 'a.b'")
    assert (site.sets, site.domains, site.conf_line()) == ((), (), "")
    assert codes(section("option name 'tube'", "option domain 'a.b'")) == [
        ("missing-option", "dhcp.s.name"), ("missing-option", "dhcp.s.domain"),
    ]  # fmt: skip


def test_bad_values_are_left_out_and_said() -> None:
    bad = section("list name 'a b'", "list name 'ok'", "list domain 'a/b'", "list domain 'ok.org'",
                  "list domain '#'", "option connbal_timeout 'soon'")  # fmt: skip
    [site] = sites.sites(package(bad))
    assert (site.sets, site.domains, site.timeout) == ((("ok", V4),), ("ok.org",), None)
    assert codes(bad) == [
        ("bad-value", "dhcp.s.name"), ("bad-value", "dhcp.s.domain"), ("bad-value", "dhcp.s.domain"),
        ("bad-value", "dhcp.s.connbal_timeout"),
    ]  # fmt: skip


def test_a_domain_in_two_sections() -> None:
    text = section("list name 'a'", "list domain 'x.org'") + section("list name 'b'", "list domain 'x.org'", name="t")
    assert codes(text) == [("duplicate-domain", "dhcp.t.domain")]


@given(
    st.text(),
    st.lists(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)),
)
def test_whatever_stands_there(first: str, values: list[str]) -> None:
    """What goes on to dnsmasq, to ipset and to terminals is of narrow alphabets."""
    from connbal.uci import Section

    held = Section("s", "ipset", False, {"name": (first, *values), "domain": tuple(values), "family": first})
    found = Package("dhcp", (held,))
    [site] = sites.sites(found)
    list(sites.findings(found))
    line = site.conf_line()
    assert line.isascii()
    assert line.isprintable()
    assert line.count("/") in (0, len(site.domains) + 1)
    assert all(sites.is_set_name(name) for name in sites.declared(found))


# --- what the plan is told --------------------------------------------------------------------------------------------

FIREWALL = """
config ipset
	option name 'tube'
	option family 'ipv6'
	option match 'dest_ip'
	option timeout '600'

config ipset
	option name 'nets'
	list match 'src_net'

config ipset
	option name 'ports'
	option match 'dest_ip dest_port'

config ipset
	option name 'map'
	option storage 'bitmap'
	option match 'ip'
"""


def test_dhcp_alone() -> None:
    found = sites.declared(package(section("list name 'tube'", "list domain 'a.b'", "option connbal_timeout '60'")))
    assert found == {"tube": SetDeclaration("tube", timeout=60, place="dhcp.s")}


def test_the_twin_is_declared_too() -> None:
    text = section("list name 't'", "list name 't6'", "list domain 'a.b'", "option connbal_family 'any'")
    found = sites.declared(package(text))
    assert (found["t"].family, found["t"].twin) == (V4, "t6")
    assert (found["t6"].family, found["t6"].twin) == (V6, "")


def test_the_firewall_says_what_dhcp_does_not() -> None:
    silent = package(section("list name 'tube'", "list domain 'a.b'"))
    told = package(section("list name 'tube'", "list domain 'a.b'", "option family '4'", "option connbal_timeout '5'"))
    firewall = package(FIREWALL, "firewall")
    assert sites.declared(silent, firewall)["tube"] == SetDeclaration("tube", "hash:ip", V6, 600, "dhcp.s")
    assert sites.declared(told, firewall)["tube"] == SetDeclaration("tube", "hash:ip", V4, 5, "dhcp.s")


def test_the_firewall_alone() -> None:
    found = sites.declared(None, package(FIREWALL, "firewall"))
    assert {name: (one.type, one.family, one.filled) for name, one in found.items()} == {
        "tube": ("hash:ip", V6, False), "nets": ("hash:net", V4, False),
    }  # fmt: skip


def test_a_section_that_the_firewall_leaves_out_declares_nothing() -> None:
    text = FIREWALL.replace("config ipset", "config ipset\n\toption enabled '0'")
    assert sites.declared(None, package(text, "firewall")) == {}


def test_nothing_is_declared_where_there_is_nothing() -> None:
    assert sites.declared(None, None) == {}


# --- values from the command line -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("youtube.com", "youtube.com"),
        ("YouTube.COM.", "youtube.com"),
        (" youtube.com ", "youtube.com"),
        ("m\u00fcnchen.de", "xn--mnchen-3ya.de"),
        ("XN--MNCHEN-3YA.de", "xn--mnchen-3ya.de"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("lan", "lan"),
        ("r3---sn-4g5e6nzl.googlevideo.com", "r3---sn-4g5e6nzl.googlevideo.com"),
        (".".join(["a" * 63] * 3 + ["b" * 61]), ".".join(["a" * 63] * 3 + ["b" * 61])),
    ],
)
def test_domains(text: str, name: str) -> None:
    assert sites.domain(text) == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "labels"),
        ("a..b", "labels"),
        ("-a.b", "labels"),
        ("a" * 64 + ".b", "labels"),
        (".".join(["a" * 63] * 4), "253"),
        ("a.b\nserver=6.6.6.6", "labels"),
        ("a b.c", "labels"),
        ("#", "labels"),
        ("a.b'", "labels"),
        ("*.youtube.com", "give 'youtube.com'"),
        (".youtube.com", "give 'youtube.com'"),
        ("https://youtube.com/watch", "'youtube.com'"),
        ("a.b/set", "'a.b'"),
        ("192.0.2.1", "dest_ip"),
        ("2001:db8::1", "dest_ip"),
        ("fu\u00dfball.de", "xn--"),
        ("\u0661.de\u200d", "xn--"),
        ("\udcff.de", "another script"),
    ],
)
def test_what_is_no_domain(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r".") as caught:
        sites.domain(text)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


@given(st.text())
def test_a_domain_is_taken_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        name = sites.domain(text)
        assert sites.domain(name) == name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@pytest.mark.parametrize("name", ["youtube", "a", "a.b:c+d-e", "_x", "a" * 30])
def test_names_of_sets(name: str) -> None:
    assert sites.set_name(name) == name


@pytest.mark.parametrize(
    ("name", "family"),
    [("", "ipv4"), ("a" * 31, "ipv4"), ("a" * 30, "any"), ("-x", "ipv4"), ("x-", "ipv4"), ("a b", "ipv4"),
     ("a,b", "ipv4"), ("a/b", "ipv4"), ("a\n", "ipv4"), ("\u00fc", "ipv4"), ("mwan3_x", "ipv4")],
)  # fmt: skip
def test_what_is_no_name_of_a_set(name: str, family: str) -> None:
    with pytest.raises(UsageError):
        sites.set_name(name, family)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3600", 3600), ("1h", 3600), ("90s", 90), ("30M", 1800), ("7d", 604800), ("0", None), ("none", None),
     ("2147483", 2147483)],
)  # fmt: skip
def test_timeouts(text: str, seconds: int | None) -> None:
    assert sites.timeout(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "soon", "2147484", "25d", "1e3", "h", "9" * 400])
def test_what_is_no_timeout(text: str) -> None:
    with pytest.raises(UsageError, match="no timeout"):
        sites.timeout(text)


def test_assignments() -> None:
    assert sites.assignment("domain=A.org") == sites.assignment("a.org") == "a.org"
    with pytest.raises(UsageError, match="domain=NAME"):
        sites.assignment("name=x")


# --- changes ----------------------------------------------------------------------------------------------------------

LAN = "config dhcp 'lan'\n\toption start '100'\n"


def added(text: str, name: str, *domains: str, family: str = "ipv4", time: str | None = None) -> Package:
    editor = Editor(package(text))
    sites_edit.add(editor, sites_edit.wanted(name, domains or ("a.b",), family, time))
    return editor.package


def test_what_is_added() -> None:
    text = export(added(LAN, "you.tube", "youtube.com", "B.org", "b.org", time="1h"), header=False)
    assert text.strip() == (LAN + "\n" + section(
        "list name 'you.tube'", "list domain 'youtube.com'", "list domain 'b.org'", "option family '4'",
        "option connbal_timeout '3600'", name="you_tube",
    )).strip()  # fmt: skip


def test_a_name_that_a_section_has_already() -> None:
    found = added(LAN, "lan", family="any")
    assert found.sections[1].anonymous
    [site] = sites.sites(found)
    assert site.sets == (("lan", V4), ("lan6", V6))
    assert site.paired


@pytest.mark.parametrize(("name", "family"), [("v6", "ipv4"), ("v4", "ipv6"), ("v6", "any"), ("x4", "any")])
def test_what_is_added_is_read_as_meant(name: str, family: str) -> None:
    [site] = sites.sites(added("", name, family=family))
    assert site.family == family
    assert site.sets[0] == (name, V6 if family == "ipv6" else V4)


def test_what_is_not_added() -> None:
    text = section("list name 'tube'", "list domain 'a.b'")
    for name, domain, words in (("tube", "x.y", "ipset set tube"), ("other", "A.B.", "remove it from tube")):
        with pytest.raises(UsageError, match=words):
            added(text, name, domain)
    with pytest.raises(UsageError, match="--domain"):
        sites_edit.wanted("x", (), "ipv4", None)


def changed(text: str, **options: object) -> tuple[Package, int]:
    editor = Editor(package(text))
    [site] = sites.sites(editor.package)
    sites_edit.change(editor, site, **options)  # type: ignore[arg-type]  # whatever a test hands on
    return editor.package, len(editor.changes)


def test_domains_come_and_go_and_the_rest_stays() -> None:
    text = section("list name 'tube'", "list domain 'a.b'", "list domain '#'", "option table 'fw4'", "option own 'x'")
    found, _ = changed(text, add=("c.d", "c.d"), remove=("a.b",), time="60")
    assert found.sections[0].options == {
        "name": ("tube",), "table": "fw4", "own": "x", "domain": ("#", "c.d"), "connbal_timeout": "60",
    }  # fmt: skip
    found, _ = changed(export(found, header=False), time="0")
    assert "connbal_timeout" not in found.sections[0].options


def test_letters_large_or_small_are_the_same_domain() -> None:
    text = section("list name 'tube'", "list domain 'YouTube.com'", "list domain 'a.b'")
    assert one("list name 'tube'", "list domain 'YouTube.com'").domains == ("youtube.com",)
    assert changed(text, add=("youtube.com",))[1] == 0
    assert changed(text, remove=("youtube.com",))[0].sections[0].options["domain"] == ("a.b",)


def test_a_change_that_makes_no_difference() -> None:
    assert changed(section("list name 'tube'", "list domain 'a.b'"), add=("a.b",))[1] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"remove": ("a.c",)}, "no domain a.c; did you mean a.b"),
        ({"remove": ("a.b",)}, "ipset delete tube"),
        ({"time": "soon"}, "no timeout"),
        ({"add": ("x.y",), "time": "soon"}, "no timeout"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(options: dict[str, object], words: str) -> None:
    editor = Editor(package(section("list name 'tube'", "list domain 'a.b'")))
    [site] = sites.sites(editor.package)
    with pytest.raises(UsageError, match=words):
        sites_edit.change(editor, site, **options)  # type: ignore[arg-type]  # whatever a test hands on
    assert not editor.changes


def test_finding_one() -> None:
    found = sites.sites(package(
        section("list name 'tube'", "list name 'tube6'", "list domain 'a.b'", name="first")
        + "config ipset\n\tlist name 'flix'\n\tlist domain 'c.d'\n"
    ))  # fmt: skip
    names = {name: sites_edit.find(found, name).name for name in ("tube", "tube6", "first", "@ipset[0]")}
    assert set(names.values()) == {"tube"}
    assert sites_edit.find(found, "@ipset[-1]").name == "flix"
    with pytest.raises(UsageError, match="did you mean tube"):
        sites_edit.find(found, "tub")


def test_deleting_waits_for_rules() -> None:
    editor = Editor(package(section("list name 'tube'", "list name 'tube6'", "list domain 'a.b'")))
    [site] = sites.sites(editor.package)
    used: Config = config(rules=[Rule("one", "all", ipset="tube6"), Rule("two", "all", ipset_src="tube"),
                                 Rule("three", "all", ipset="other")])  # fmt: skip
    with pytest.raises(UsageError, match="rules one, two name tube"):
        sites_edit.delete(editor, site, used)
    assert not editor.changes
    sites_edit.delete(editor, site, config())
    assert not editor.sections()

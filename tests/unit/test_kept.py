"""What is kept is what would be worked out again, whatever was asked before."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from connbal.kept import Kept, afresh
from connbal.model.facts import Facts
from connbal.plan.build import plan
from connbal.plan.diff import diff
from connbal.plan.ledger import Ledger
from connbal.plan.recent import Recent
from connbal.plan.state import KernelState
from connbal.uci.decode import decode
from connbal.uci.package import Package, Section
from connbal.uci.text import parse
from tests.fakes.build import V4, V6
from tests.fakes.work import calls
from tests.golden.facts import facts_from

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "cases").iterdir())
PACKAGES = [parse((case / "config").read_bytes(), "mwan3") for case in GOLDEN]
FACTS = [facts_from(json.loads((case / "facts.json").read_text())) for case in GOLDEN]
EMPTY = KernelState({V4: {}, V6: {}})


def half(number: float) -> float:
    return number / 2


def double(number: float, *, times: int = 1) -> float:
    return number * 2**times


def test_the_same_question_has_the_same_answer() -> None:
    kept = Kept()
    first = kept("wan", double, 1.5)
    assert kept("wan", double, 1.5) is first
    assert (kept("wan", half, 1.5), kept("wan1", double, 1.5), kept("wan", double, 1.5, times=2)) == (0.75, 3.0, 6.0)
    assert kept("wan", double, 2.5) == 5.0
    assert afresh("wan", double, 2.5, times=2) == 10.0


def test_what_is_not_asked_any_more_is_forgotten() -> None:
    kept = Kept()
    first = kept("wan", double, 1.5)
    for _ in range(3):
        kept.turn()
        assert kept("wan", double, 1.5) is first
    kept.turn()
    kept.turn()
    assert kept("wan", double, 1.5) is not first


def changed(chance: random.Random, sections: list[Section]) -> list[Section]:
    """Some sections more, fewer, or in another order; some with what another of the type says."""
    pool = [section for package in PACKAGES for section in package.sections]
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(sections) + 1)
        way = chance.randrange(4)
        if way == 0 or not sections:
            sections.insert(at, chance.choice(pool))
        elif way == 1:
            del sections[at - 1]
        elif way == 2:
            sections.insert(at, sections.pop(chance.randrange(len(sections))))
        else:
            one = sections[at - 1]
            other = chance.choice([section for section in pool if section.type == one.type] or [one])
            sections[at - 1] = replace(one, options=other.options)
    return sections


@pytest.mark.parametrize("seed", range(8))
def test_what_changes_step_by_step_is_as_if_it_had_always_been_so(seed: int) -> None:
    """Decoding, planning and writing, each with what it kept, against each afresh."""
    chance = random.Random(seed)
    sections, facts = list(chance.choice(PACKAGES).sections), chance.choice(FACTS)
    kept, recent = Kept(), Recent()
    for _ in range(40):
        sections = changed(chance, sections)
        if chance.random() < 0.3:
            facts = chance.choice(FACTS)
        package = Package("mwan3", tuple(sections))
        decoded = decode(package, kept)
        kept.turn()
        assert decoded == decode(package)
        ids = {one.name: one.id + 1 for one in decoded.config.interfaces} if chance.random() < 0.2 else None
        made = recent.plan(decoded.config, facts, ids=ids, refused={})
        wanted = plan(decoded.config, facts, ids=ids)
        assert list(made.rulesets.items()) == list(wanted.rulesets.items())
        assert made == wanted
        assert recent.diff(made, EMPTY, Ledger()) == diff(wanted, EMPTY, Ledger())


def test_one_rule_of_many_costs_little_more_than_itself() -> None:
    """Counted in calls of functions, from the text to the lines."""
    rules = [Section(f"r{n}", "rule", options={"use_policy": "default", "src_ip": f"10.0.{n}.0/24"})
             for n in range(250)]  # fmt: skip
    kept, recent = Kept(), Recent()

    def once(sections: list[Section]) -> None:
        config = decode(Package("mwan3", tuple(sections)), kept).config
        kept.turn()
        recent.diff(recent.plan(config, Facts(), ids=None, refused={}), EMPTY, Ledger())

    first = calls(lambda: once(rules))
    edited = [replace(rules[0], options={**rules[0].options, "src_ip": "10.9.0.0/16"}), *rules[1:]]
    assert calls(lambda: once(edited)) * 3 < first

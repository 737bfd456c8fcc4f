"""Loss and latency over a sliding window, and what they do to health."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Interface
from connbal.track.api import HostResult, Round
from connbal.track.health import Finished, State, Status, observe, online, reason, start, status
from connbal.track.quality import MAX_SAMPLES, Host, HostState, heard
from tests.unit.track.test_health import UP, settings


def judged(**options: Any) -> Interface:
    """Rounds a second apart; defaults: loss 40 and 10 %, latency 1000 and 500 ms."""
    return settings(**{"check_quality": True, "quality_window": 20.0, "down": 3, "up": 3, **options})


def result(letter: float | str) -> HostResult:
    """``-``: no answer; ``a``: an answer of a method without latency; a number: latency in ms."""
    if letter == "-":
        return HostResult("1.1.1.1", False, None, 100.0, "timeout")
    return HostResult("1.1.1.1", True, None if letter == "a" else float(letter), 0.0)


def listen(one: Interface, results: list[float | str], host: Host | None = None) -> list[Host]:
    """The host after each round."""
    host = host or Host("1.1.1.1")
    found = []
    for at, letter in enumerate(results):
        host = heard(one, host, result(letter), float(at))
        found.append(host)
    return found


def ups(hosts: list[Host]) -> str:
    return "".join("+" if host.state is HostState.UP else "-" for host in hosts)


@pytest.mark.parametrize(("results", "expected"), [
    ([20, 3000, 20, 20], "+---"),  # 1510, then 1013, then 765: in between, and stays failing
    ([900] * 6, "++++++"),  # in between from the start: it was well
    ([1000, 1000], "--"),
    (["a"] * 6, "++++++"),
    ([1500, 0, 0], "--+"),  # 1500, 750, then just what it is back at: 500
])  # fmt: skip
def test_latency(results: list[float | str], expected: str) -> None:
    assert ups(listen(judged(), results)) == expected


def test_latency_has_hysteresis() -> None:
    hosts = listen(judged(quality_window=3.0), [100, 2500, 100, 100, 900, 900, 900, 900, 100, 100, 100])
    # of the last 5 rounds: 100 1300 900 700 900 900 580 740 740 580 420
    assert ups(hosts) == "+---------+"
    assert hosts[3].fault == "latency 700 ms, back at 500 ms"


def test_a_lost_probe_or_two_among_many_do_no_harm_and_too_few_say_nothing() -> None:
    assert ups(listen(judged(), ["-", 20, 20, 20, 20, 20])) == "-+++++"
    assert ups(listen(judged(), [20, "-", 20, "-", 20, 20])) == "+-+---"  # from the fifth on: 2 of 5 are 40 %


def test_loss_has_hysteresis() -> None:
    one = judged(down=5)
    hosts = listen(one, [*[20] * 5, "-", 20, "-", 20, "-", "-", *[20] * 16])
    assert ups(hosts) == "+++++-+-+--++++++++++++++++"  # 4 of 11, never 40 %
    assert hosts[11].loss == pytest.approx(100 * 4 / 12)
    hosts = listen(one, [*[20] * 3, *"--", 20, "-", *[20] * 25])
    assert hosts[7].fault == "loss 38 %, back at 10 %"
    assert ups(hosts) == "+++" + "-" * 21 + "+" * 8  # until no more than 2 of its 21 are lost


def test_an_outage_that_was_judged_is_not_held_against_a_host_again() -> None:
    """Silence is for the score: ``down`` rounds of it, and after ``up`` answers all is well again."""
    hosts = listen(judged(), [*[20] * 5, *"-----", 20, 20])
    assert ups(hosts) == "+++++-----++"
    assert (hosts[-3].loss, hosts[-1].loss) == (50.0, 0.0)


@pytest.mark.parametrize(("misses", "loss"), [(2, 25.0), (3, 0.0)])
def test_an_outage_is_one_that_lasts_for_down_rounds(misses: int, loss: float) -> None:
    assert listen(judged(down=3), [*[20] * 5, *"---"[:misses], 20])[-1].loss == loss


def test_each_round_by_itself_where_the_window_is_0() -> None:
    one = judged(quality_window=0.0, count=10)
    host = heard(one, Host("h"), HostResult("h", True, 20.0, 40.0), 0.0)
    assert (host.state, host.fault) == (HostState.DOWN, "loss 40 %, limit 40 %")
    host = heard(one, host, HostResult("h", True, 20.0, 20.0), 1.0)
    assert (host.state, host.fault) == (HostState.DOWN, "loss 20 %, back at 10 %")
    host = heard(one, host, HostResult("h", True, 20.0, 10.0), 2.0)
    assert host.state is HostState.UP
    assert len(host.window) == 1
    assert ups(listen(judged(quality_window=0.0), [20, "-", 20, 1000, 20])) == "+-+-+"


def test_without_check_quality_an_answer_is_enough() -> None:
    assert ups(listen(settings(), [5000, "-", 5000])) == "+-+"


def test_latency_is_weighed_by_the_answers() -> None:
    host = heard(settings(), Host("h"), HostResult("h", True, 100.0, 0.0), 0.0)
    host = heard(settings(), host, HostResult("h", True, 400.0, 50.0), 1.0)
    assert (host.loss, host.latency) == (25.0, 200.0)
    assert (Host("h").loss, Host("h").latency) == (None, None)


def test_the_window_is_bounded_and_reaches_back_for_a_few_probes() -> None:
    assert len(listen(settings(quality_window=600.0), [20] * (MAX_SAMPLES + 50))[-1].window) == MAX_SAMPLES
    assert len(listen(settings(quality_window=9.5), [20] * 50)[-1].window) == 10
    assert len(listen(settings(quality_window=1.0), [20] * 50)[-1].window) == 5
    assert len(listen(settings(quality_window=1.0, count=5), [20] * 50)[-1].window) == 2


# --- health -----------------------------------------------------------------------------------------------------------


def rounds(one: Interface, results: list[float | str]) -> list[State]:
    state, _ = start(one, UP, 0.0)
    found = []
    for number, letter in enumerate(results, 1):
        at = float(number)
        state, _ = observe(one, state, Finished(Round((result(letter),), at), at), at)
        found.append(state)
    return found


ALTERNATELY: list[float | str] = [20, "-"] * 10


def test_a_source_that_loses_too_much_goes_offline_and_comes_back_when_it_is_well() -> None:
    one = judged(down=4, up=2)
    states = rounds(one, [*[20] * 5, *ALTERNATELY, *[20] * 30])
    lines = ["+" if online(one, state) else "-" for state in states]
    gone, back = lines.index("-"), "".join(lines).rindex("-") + 1
    assert "%" in reason(one, states[gone])
    loss = states[back].hosts[0].loss
    assert loss is not None
    assert loss <= 10.0
    assert lines == ["+"] * gone + ["-"] * (back - gone) + ["+"] * (len(lines) - back)


def test_a_slow_source_says_so() -> None:
    one = judged(down=2)
    state = rounds(one, [20, 4000])[-1]
    assert status(one, state) is Status.DISCONNECTING
    assert reason(one, state) == (
        "0 of 1 host answered well enough, 1 needed: 1.1.1.1 latency 2010 ms, limit 1000 ms; "
        "offline after 1 more bad round"
    )


def test_a_source_that_starts_offline_has_to_meet_the_recovery_limits() -> None:
    one = judged(initial_online=False, up=1)
    assert not online(one, rounds(one, [700] * 30)[-1])
    assert online(one, rounds(one, [400])[-1])


@given(st.lists(st.sampled_from(["-", 20, 700, 3000, "a"]), max_size=60), st.integers(1, 5))
def test_silence_is_offline_by_down_rounds_whatever_was_before(results: list[float | str], down: int) -> None:
    one = judged(down=down)
    assert not online(one, rounds(one, [*results, *["-"] * down])[-1])

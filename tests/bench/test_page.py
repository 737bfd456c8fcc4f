"""What is made of figures: plots, the page, the table in the documentation."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from connbal.uci.decode import decode
from connbal.uci.text import parse
from tests.bench import document, page, plots, svg
from tests.bench.configuration import EDITED, configuration, sources
from tests.bench.results import Figure, Floor
from tests.bench.scene import SCALES

_PAGE = Path(__file__).parents[2] / "docs/benchmark.md"
_RESULT = {"machine": {"kernel": "1 <2>"}, "seconds": 12.0}


def _figures() -> list[Figure]:
    found = [Figure("start", (count / 10, count / 5), group="start", scale={"interfaces": count, "rules": 10},
                    floor=Floor("bare", (0.01 * count,))) for count in (20, 2, 5)]  # fmt: skip
    return [*found, Figure("a & b", tuple(number / 100 for number in range(40)), 0.1, group="failover"),
            Figure("alone", (0.0,), 0, "", group="failover")]  # fmt: skip


def test_figures_that_differ_in_one_number_are_a_line() -> None:
    (plot,) = plots.lines(_figures())
    assert (plot.across, plot.title) == ("interfaces", "start, by interfaces, 10 rules (s)")
    assert [point.x for point in plot.lines["start"]] == [2, 5, 20]
    assert (plot.lines["start"][0].low, plot.lines["start"][0].high) == (0.2, 0.4)
    assert [point.median for point in plot.floors["bare"]] == [0.02, 0.05, 0.2]


def test_one_point_is_no_line() -> None:
    assert plots.lines([Figure("x", (1.0,), group="g", scale={"interfaces": 2, "rules": 10})]) == []


def test_what_was_measured_often_has_a_distribution() -> None:
    (plot,) = plots.columns(_figures())
    assert sum(plot.counts) == 40
    assert (plot.low, plot.limit) == (0.0, 0.1)
    (same,) = plots.columns([Figure("x", (1.0,) * 30)])
    assert sum(same.counts) == 30


def test_the_drawings_can_be_read_and_stay_within_themselves() -> None:
    drawn = [*map(svg.render_lines, plots.lines(_figures())), *map(svg.render_columns, plots.columns(_figures()))]
    assert len(drawn) == 2
    for text in drawn:
        picture = ET.fromstring(text).find("svg")
        assert picture is not None
        for shape in picture:
            for name, most in (("x", 560), ("cx", 560), ("x1", 560), ("y", 300), ("cy", 300), ("y2", 300)):
                assert 0 <= float(shape.get(name, "0")) <= most, ET.tostring(shape)


def test_the_page_has_every_line_and_loads_nothing() -> None:
    text = page.render(_RESULT, _figures(), ["a remark"])
    for figure in _figures():
        assert figure.name.replace("&", "&amp;") in text
    assert "1 &lt;2&gt;" in text
    assert "a remark" in text
    assert text.count('class="missed"') == 2  # among the targets, too
    for loading in ("http:", "https:", "src=", "<link", "<script", "url("):
        assert loading not in text


def test_the_table_of_the_documentation_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n")
    for _ in range(2):
        document.update(file, _RESULT, _figures())
        text = file.read_text()
        assert text.startswith(f"before\n{document.BEGIN}\n")
        assert text.endswith(f"{document.END}\nafter\n")
        assert "old" not in text
        assert text.count("| start, 2 interfaces, 10 rules |") == 1
    assert "- kernel: 1 &lt;2>" in text
    assert "| ≤ 0.100 s |" in text


def test_a_page_without_markers_is_an_error() -> None:
    with pytest.raises(ValueError, match="has no lines"):
        document.replaced("nothing", "made")


def test_the_documentation_has_the_markers() -> None:
    assert "made" in document.replaced(_PAGE.read_text(encoding="utf-8"), "made")


@pytest.mark.parametrize("scale", SCALES)
def test_configurations_of_every_scale_are_without_fault(scale: object) -> None:
    assert isinstance(scale, type(SCALES[0]))
    names = sources(scale.interfaces)
    decoded = decode(parse(configuration(names, scale.rules, quick=names[-1], weight=2, hosts=4), "mwan3"))
    assert not decoded.errors
    assert (len(decoded.config.interfaces), len(decoded.config.rules)) == (scale.interfaces, scale.rules)
    assert [rule.name for rule in decoded.config.rules if rule.use_policy == EDITED] == ["r0"]


def test_what_readme_claims_are_lines_of_the_table() -> None:
    """Word for word: name, measured, worst, ratio, and to what."""
    table = _PAGE.read_text(encoding="utf-8")
    measured = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    known = {row[0]: [row[2], row[3], row[5], row[6].strip()] for row in measured if len(row) > 6}
    readme = _PAGE.parents[1].joinpath("README.md").read_text(encoding="utf-8")
    _, _, rest = readme.partition(document.CLAIMS)
    rows = [line.strip("|").split("|") for line in rest.strip().partition("\n\n")[0].splitlines()[2:]]
    assert len(rows) > 5
    for row in rows:
        name, *said = (cell.strip() for cell in row)
        assert known[name] == said, name


def test_claims_are_written_anew() -> None:
    (one, *_) = _figures()
    page = f"a\n\n{document.CLAIMS}\n\n| what | b |\n| --- | --- |\n| {one.name} | old |\n\nz | y\n"
    made = document.claimed(page, _figures())
    assert made.startswith(f"a\n\n{document.CLAIMS}\n\n| what | b |\n| --- | --- |\n| {one.name} | ")
    assert made.endswith("|\n\nz | y\n")
    assert "old" not in made
    with pytest.raises(ValueError, match="a line that nobody measured"):
        document.claimed(page.replace(one.name, "a line that nobody measured"), _figures())

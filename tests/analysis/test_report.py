"""The report: JSON that is valid, a page that needs nothing else, and errors that name what is wrong."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cgenn.analysis.figures import series_figure
from cgenn.analysis.page import format_value
from cgenn.analysis.report import write_report
from cgenn.analysis.sections import Number, Picture, Section, Table

PNG = series_figure({"time (ps)": np.arange(5), "energy (kJ/mol)": np.arange(5)})
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Collects the attributes of a page and checks that every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def write(folder, **changes):
    arguments = {
        "headline": {
            "js": Number(0.0225, "divergence", "nat", 0.0011, "0.017 from sampling"),
            "backend": "openmm-torch",
            "steps": 1000,
            "js_mirrored": None,
        },
        "sections": [
            Section(
                "Training & <speed>",
                "First.\n\nSecond.",
                (Picture("energy", PNG, "Energy over time."),),
                (Table(("what", "ns/day"), (("model", 12.3456), ("none", None))),),
            )
        ],
        "provenance": {"file": "frames.h5", "versions": {"cgenn": "0.1.0"}},
    }
    return write_report(folder, "A <report>", **{**arguments, **changes})


def test_numbers_are_valid_json(tmp_path):
    report = write(tmp_path / "out", numbers={"more": [1, 2]})
    content = json.loads(report.json.read_text())
    assert content == report.numbers
    assert content["headline"] == {
        "js": 0.0225,
        "js_error": 0.0011,
        "backend": "openmm-torch",
        "steps": 1000,
        "js_mirrored": None,
    }
    assert content["units"] == {"js": "nat"}
    assert content["more"] == [1, 2]
    assert content["provenance"]["versions"] == {"cgenn": "0.1.0"}


def test_page_is_self_contained_and_well_formed(tmp_path):
    text = write(tmp_path).html.read_text(encoding="utf-8")
    page = Page(text)
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset")]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    assert "@import" not in text
    assert "url(" not in text
    words = " ".join(page.words)
    for expected in (
        "A <report>",
        "0.0225 ± 0.0011",
        "Training & <speed>",
        "12.35",
        "n/a",
        "openmm-torch",
        "frames.h5",
    ):
        assert expected in words


def test_figures_are_written_beside_the_page_and_nothing_half_done(tmp_path):
    report = write(tmp_path)
    assert (report.folder / "energy.png").read_bytes() == PNG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["energy.png", "report.html", "report.json"]


def test_long_tables_are_folded(tmp_path):
    rows = tuple(("row", float(index)) for index in range(40))
    text = write(tmp_path, sections=[Section("Many", tables=(Table(("a", "b"), rows),))]).html.read_text()
    assert "<summary>All 40 rows</summary>" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headline": {"js": float("nan")}}, "headline number 'js' is nan"),
        ({"sections": [Section("x", pictures=(Picture("x", b"GIF89a"),))]}, "figure 'x' is not a PNG image"),
        ({"sections": [Section("x", pictures=(Picture("a", PNG), Picture("a", PNG)))]}, "two figures are named 'a'"),
        ({"numbers": {"deep": [float("inf")]}}, "not JSON compliant"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.022503, 0.00113, "0.0225 ± 0.0011"),
        (374.512, 0.42, "374.51 ± 0.42"),
        (374.5, 12.0, "374 ± 12"),
        (0.0225, None, "0.0225"),
        (0.0225, 0.0, "0.0225"),
        (1.5e-7, 2e-8, "1.5e-07 ± 2e-08"),
        (123456.0, None, "1.235e+05"),
        (1000, None, "1000"),
        (None, None, "n/a"),
        ("text", None, "text"),
    ],
)
def test_values_are_written_with_the_digits_that_they_have(value, error, expected):
    assert format_value(value, error) == expected

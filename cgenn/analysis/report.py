"""A report: numbers as JSON, figures as PNG, and one self-contained HTML page of both."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgenn.analysis.page import render
from cgenn.analysis.sections import Number, Section, Value
from cgenn.files import atomic, write_json

_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        folder: where it lies.
        headline: the numbers to look at first, by key.
        numbers: everything that is in report.json.
    """

    folder: Path
    headline: Mapping[str, Number]
    numbers: Mapping[str, Any] = field(repr=False)

    @property
    def html(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def json(self) -> Path:
        """The numbers."""
        return self.folder / "report.json"


def write_report(
    out: str | Path,
    title: str,
    headline: Mapping[str, Number | Value],
    *,
    numbers: Mapping[str, Any] | None = None,
    sections: Sequence[Section] = (),
    provenance: Mapping[str, Any] | None = None,
) -> Report:
    """Write report.json, report.html and the figures into the folder `out`.

    Args:
        out: folder, made if it is not there.
        title: of the page.
        headline: the numbers to look at first, by the key that they have in the JSON file.
        numbers: more entries of the JSON file.
        sections: of the page, in this order.
        provenance: where everything came from: files, versions, settings.

    Raises:
        ValueError: if a figure is not a PNG image, two figures have the same name, or a number is NaN or infinite.
    """
    pictures = [picture for section in sections for picture in section.pictures]
    names = [picture.name for picture in pictures]
    for picture in pictures:
        if not picture.png.startswith(_PNG):
            raise ValueError(f"figure {picture.name!r} is not a PNG image")
        if names.count(picture.name) > 1:
            raise ValueError(f"two figures are named {picture.name!r}")
    entries = {key: value if isinstance(value, Number) else Number(value, key) for key, value in headline.items()}
    content = {
        "title": title,
        "headline": _flat(entries),
        "units": {key: number.unit for key, number in entries.items() if number.unit},
        **(numbers or {}),
        "provenance": dict(provenance or {}),
    }
    folder = Path(out)
    write_json(folder / "report.json", content)
    for picture in pictures:
        with atomic(folder / f"{picture.name}.png") as temporary:
            temporary.write_bytes(picture.png)
    with atomic(folder / "report.html") as temporary:
        temporary.write_text(render(title, entries, sections, provenance or {}), encoding="utf-8")
    return Report(folder, entries, content)


def _flat(headline: Mapping[str, Number]) -> dict[str, Value]:
    """Values by key, and errors as "<key>_error" unless there is a number of that name."""
    result: dict[str, Value] = {}
    for key, number in headline.items():
        if isinstance(number.value, float) and not math.isfinite(number.value):
            raise ValueError(f"headline number {key!r} is {number.value}, expected a finite number or None")
        result[key] = number.value
        if number.error is not None:
            result.setdefault(f"{key}_error", number.error)
    return result

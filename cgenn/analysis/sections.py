"""What a report is made of: headline numbers, and sections of text, figures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = float | int | str | None
"""A number or a short text; None if it could not be had."""


@dataclass(frozen=True)
class Number:
    """One headline number.

    Attributes:
        value: the number, or a short text; None if it could not be had.
        label: what it is, for a person.
        unit: its unit, empty if it has none.
        error: its standard error.
        note: what it should be compared with.
    """

    value: Value
    label: str = ""
    unit: str = ""
    error: float | int | None = None
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure: the name of its PNG file without suffix, the image, and what it shows."""

    name: str
    png: bytes
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Column headings, with units, and rows of numbers or texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Section:
    """A part of the page: a title, and any of text, pictures and tables, in this order."""

    title: str
    text: str = ""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Part:
    """What one kind of analysis adds to a report.

    Attributes:
        headline: its numbers for the top of the page, by key.
        numbers: its entries of the JSON file.
        sections: of the page.
    """

    headline: Mapping[str, Number] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()

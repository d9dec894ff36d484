"""Numbers of the reference and of the model beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cgenn.analysis.page import format_value
from cgenn.analysis.sections import Number, Table
from cgenn.analysis.statistics import Estimate


@dataclass(frozen=True)
class Compared:
    """One number in the reference and in the model.

    Attributes:
        key: its name in the JSON file.
        label: what it is, for a person.
        unit: of both, empty if there is none.
        reference: its value there, with the standard error.
        model: the same of the model.
    """

    key: str
    label: str
    unit: str
    reference: Estimate
    model: Estimate

    @property
    def ratio(self) -> Estimate:
        """Model over reference; NaN if that is zero."""
        if not self.reference.value:
            return Estimate(float("nan"), None)
        ratio = self.model.value / self.reference.value
        if self.model.error is None or self.reference.error is None or not self.model.value:
            return Estimate(ratio, None)
        relative = (self.model.error / self.model.value) ** 2 + (self.reference.error / self.reference.value) ** 2
        return Estimate(ratio, abs(ratio) * relative**0.5)

    def number(self, labels: tuple[str, str]) -> Number:
        """For the top of the page: that of the model, to be compared with the reference."""
        note = f"{format_value(*self.reference)}, {labels[0]}"
        return Number(self.model.value, self.label, self.unit, self.model.error, note)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "reference": self.reference.value,
            "reference_error": self.reference.error,
            "model": self.model.value,
            "model_error": self.model.error,
            **({"unit": self.unit} if self.unit else {}),
        }


def compared_table(entries: Sequence[Compared], labels: tuple[str, str]) -> Table:
    """A row for each number, with the difference of the model in percent of the reference."""
    rows = []
    for entry in entries:
        ratio = entry.ratio
        percent = None if ratio.error is None else 100.0 * ratio.error
        difference = "" if ratio.value != ratio.value else format_value(100.0 * (ratio.value - 1.0), percent)
        values = (format_value(*entry.reference), format_value(*entry.model), difference)
        rows.append((f"{entry.label} [{entry.unit}]" if entry.unit else entry.label, *values))
    return Table(("", *labels, "difference [%]"), tuple(rows))

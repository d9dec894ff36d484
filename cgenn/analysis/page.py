"""One self-contained HTML page: figures are embedded, nothing is loaded from anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cgenn.analysis.sections import Number, Picture, Section, Table, Value

_LONG_TABLE = 15

_STYLE = """
:root { color-scheme: light dark; --text: #1d2329; --soft: #5f6670; --line: #d9dde1; --page: #fbfbfc; --card: #ffffff; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e7ea; --soft: #a0a7af; --line: #3a4047; --page: #16191d; --card: #1e2226; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 66rem; padding: 2.5rem 1.5rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 1.5rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 0.7rem; padding-bottom: 0.3rem; border-bottom: 1px solid var(--line); }
p { margin: 0.6rem 0; max-width: 48rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
th { text-align: left; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line); }
th, td { padding: 0.38rem 0.9rem 0.38rem 0; vertical-align: top; }
.scroll td { white-space: nowrap; }
.headline td.note, .provenance td { white-space: normal; overflow-wrap: anywhere; }
tr + tr td { border-top: 1px solid var(--line); }
td.number, th.number { text-align: right; }
.headline td.number { font-weight: 600; }
.headline td.note, .headline td.unit { color: var(--soft); }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
figure { margin: 1rem 0 1.6rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #ffffff; border-radius: 6px;
  border: 1px solid var(--line); padding: 0.5rem; }
figcaption { color: var(--soft); font-size: 0.88rem; margin-top: 0.45rem; }
summary { cursor: pointer; color: var(--soft); margin: 0.8rem 0; }
.provenance td:first-child { color: var(--soft); width: 14rem; }
"""


def render(
    title: str, headline: Mapping[str, Number], sections: Sequence[Section], provenance: Mapping[str, Any]
) -> str:
    """The page as HTML."""
    parts = [f"<h1>{escape(title)}</h1>", _headline(headline), *map(_section, sections), _provenance(provenance)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def format_value(value: Value, error: float | None = None) -> str:
    """A number as a person writes it: four significant digits, or as many as its error allows."""
    if value is None:
        return "n/a"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if error is None or not error > 0:
        return f"{value:.4g}"
    exponent = int(f"{error:.1e}".partition("e")[2])
    magnitude = max(abs(value), error)
    if not 1e-4 <= magnitude < 1e6:
        return f"{value:.4g} ± {error:.2g}"
    digits = max(0, 1 - exponent)
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _headline(headline: Mapping[str, Number]) -> str:
    if not headline:
        return ""
    rows = "".join(
        f"<tr><td>{escape(number.label or key)}</td>"
        f'<td class="number">{escape(format_value(number.value, number.error))}'
        f'</td><td class="unit">{escape(number.unit)}</td><td class="note">{escape(number.note)}</td></tr>'
        for key, number in headline.items()
    )
    heads = '<tr><th>Quantity</th><th class="number">Value</th><th>Unit</th><th>Compare with</th></tr>'
    return f'<div class="scroll"><table class="headline"><thead>{heads}</thead><tbody>{rows}</tbody></table></div>'


def _section(section: Section) -> str:
    paragraphs = [f"<p>{escape(text)}</p>" for text in section.text.split("\n\n") if text.strip()]
    pictures, tables = [_picture(entry) for entry in section.pictures], [_table(entry) for entry in section.tables]
    return "\n".join([f"<h2>{escape(section.title)}</h2>", *paragraphs, *pictures, *tables])


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption or escape(picture.name)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    numeric = [any(isinstance(row[column], int | float) for row in table.rows) for column in range(len(table.columns))]
    marks = [' class="number"' if number else "" for number in numeric]
    heads = "".join(f"<th{mark}>{escape(name)}</th>" for name, mark in zip(table.columns, marks, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{mark}>{_cell(cell)}</td>" for cell, mark in zip(row, marks, strict=True)) + "</tr>"
        for row in table.rows
    )
    body = f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    if len(table.rows) > _LONG_TABLE:
        return f"<details><summary>All {len(table.rows)} rows</summary>{body}</details>"
    return body


def _cell(value: Value) -> str:
    return "" if value is None else escape(format_value(value))


def _provenance(provenance: Mapping[str, Any]) -> str:
    if not provenance:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(key))}</td><td>{escape(value if isinstance(value, str) else json.dumps(value))}</td></tr>"
        for key, value in provenance.items()
    )
    return f'<h2>Provenance</h2><div class="scroll"><table class="provenance"><tbody>{rows}</tbody></table></div>'

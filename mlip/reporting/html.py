"""The few pieces of HTML the report is made of; text is escaped here and nowhere else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mlip.errors import MlipError


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, of CSS class `kind` (`note`, `missing`, `warning`)."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def bullets(items: Sequence[str], kind: str = "") -> str:
    """An unordered list."""
    attribute = f' class="{escape(kind)}"' if kind else ""
    return f"<ul{attribute}>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def table(
    caption: str,
    header: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
) -> str:
    """A table whose first column names the row and whose other columns are numbers.

    Args:
        caption: said above the table.
        header: title and unit (may be empty) of each column.
        rows: the cells, already formatted.
    """
    head = "".join(
        f'<th scope="col">{escape(title)}'
        + (f'<span class="unit">{escape(unit)}</span>' if unit else "")
        + "</th>"
        for title, unit in header
    )
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<figure class="table"><figcaption>{escape(caption)}</figcaption><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>"
    )


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A two-column table of names and text values."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in pairs
    )
    return f'<figure class="table facts"><table><tbody>{body}</tbody></table></figure>'


def figure(path: Path, caption: str) -> str:
    """A PNG embedded in the page; the caption is also its description for screen readers."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def folded(summary: str, text: str) -> str:
    """Preformatted text behind a summary line that opens it."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def section(title: str, parts: Sequence[str]) -> str:
    """A titled section, reachable from the navigation."""
    return f'<section id="{anchor(title)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def anchor(title: str) -> str:
    """The fragment identifier of a section."""
    return title.lower().replace(" ", "-")


def page(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[str]]]) -> str:
    """The whole document: styles inside, nothing fetched from anywhere."""
    links = "".join(f'<a href="#{anchor(name)}">{escape(name)}</a>' for name, _ in sections)
    body = "".join(section(name, parts) for name, parts in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<header><h1>{escape(title)}</h1><p class="note">{escape(subtitle)}</p><nav>{links}</nav></header>
<main>{body}</main>
</body>
</html>
"""


def write(target: Path, document: str) -> Path:
    """Write a document of `page`; returns its path.

    Raises:
        MlipError: when it cannot be written.
    """
    try:
        target.write_text(document, encoding="utf-8")
    except OSError as error:
        raise MlipError(
            f"Cannot write {target}: {error.strerror}; make the folder writable or free space."
        ) from error
    return target


_CSS = """
:root { --ink: #1a1a1a; --muted: #595959; --line: #d9d9d9; --accent: #005a8f; --wash: #f6f7f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.5rem 4rem; background: #fff;
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial,
  "Liberation Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 2px solid var(--ink); }
p { margin: .5rem 0; max-width: 46rem; }
.note, figcaption { color: var(--muted); }
.missing { color: var(--muted); font-style: italic; }
.warnings { background: #fff6e5; border-left: 4px solid #b35c00; padding: .7rem 1rem .7rem 2rem;
  margin: .8rem 0; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin-top: .8rem; }
a { color: var(--accent); }
.table { overflow-x: auto; }
.table figcaption { margin: 0 0 .4rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); vertical-align: bottom; }
thead th { border-bottom: 2px solid var(--muted); font-weight: 600; text-align: right; }
thead th:first-child, tbody th { text-align: left; }
tbody th { font-weight: 600; white-space: nowrap; }
td { text-align: right; white-space: nowrap; }
tbody tr:hover { background: var(--wash); }
.facts th { vertical-align: top; font-weight: 600; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.unit { display: block; font-weight: 400; color: var(--muted); font-size: .85em;
  white-space: nowrap; }
figure { margin: 1rem 0 1.8rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .92rem; margin-top: .4rem; max-width: 46rem; }
details { margin: .8rem 0; }
summary { cursor: pointer; color: var(--accent); }
pre { background: var(--wash); border: 1px solid var(--line); padding: .8rem 1rem; overflow-x: auto;
  font: .85rem/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  nav { display: none; }
  h2 { break-after: avoid; }
  figure, table { break-inside: avoid; }
  .table { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .4rem; }
  details::details-content { content-visibility: visible; block-size: auto; }
  pre { white-space: pre-wrap; }
}
"""

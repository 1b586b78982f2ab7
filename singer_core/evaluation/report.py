"""The report: text for a terminal, data for a program, one self-contained HTML file for people."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .. import __version__
from ..files import write_text
from .evaluate import Evaluation
from .measures import BY_KEY, METRICS
from .plots import contact_sheet, plot_curves

logger = logging.getLogger(__name__)

Cell = tuple[str, str]  # class of the style sheet, text
Row = tuple[str, Sequence[Cell]]  # group under whose heading it stands, cells

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto;
       max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; }
.facts { color: #666; margin-top: .2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid #e4e4e4;
         vertical-align: top; }
th { font-weight: 600; } th.name { text-align: right; overflow-wrap: anywhere; }
table.many td:first-child { min-width: 11rem; }
th.value, td.value { text-align: right; white-space: nowrap; }
td.value { font-variant-numeric: tabular-nums; } td.quiet, .quiet { color: #777; }
tr.group th { padding-top: 1rem; color: #777; font-weight: 400; }
.findings li { color: #a3341a; } p.clean { color: #2a6b2a; }
.wide { overflow-x: auto; margin: 1rem 0; } .wide img { display: block; max-width: 100%; min-width: 38rem; }
@media (max-width: 40rem) { body { margin: 1rem auto; font-size: 14px; } td.value { white-space: normal; } }
"""


def report_text(found: Evaluation) -> str:
    """The table of one video, what looks wrong and what is not computed."""
    lines = [_facts(found), ""]
    for key, value in found.values.items():
        better = BY_KEY[key].better
        lines.append(BY_KEY[key].line(value, f"({better})" if better else ""))
    lines += ["", *(f"! {sentence}" for sentence in found.findings)]
    lines += [] if found.findings else ["Nothing looks wrong."]
    lines += [f"- {note}" for note in found.notes]
    return "\n".join([*lines, *silent_lines(found.missing)])


def silent_lines(missing: Mapping[str, str]) -> list[str]:
    """Which metrics have no value and why, for a terminal; metric -> reason."""
    reasons = _by_reason(missing).items()
    return ["", "not computed:", *(f"  {', '.join(keys)}: {why}" for why, keys in reasons)] if missing else []


def silent_list(missing: Mapping[str, str]) -> str:
    """The same for a page."""
    titles = {why: ", ".join(BY_KEY[key].title for key in keys) for why, keys in _by_reason(missing).items()}
    items = bullets((f"{names}: {why}" for why, names in titles.items()), "quiet")
    return paragraph("Not computed", "h3") + items if missing else ""


def _by_reason(missing: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for key, reason in missing.items():
        reasons.setdefault(reason, []).append(key)
    return reasons


def write_json(path: Path, videos: Sequence[Evaluation]) -> Path:
    data = {"singer": __version__, "videos": [found.to_json() for found in videos]}
    return write_text(path, json.dumps(data, indent=1, allow_nan=False))


def write_html(path: Path, videos: Sequence[Evaluation]) -> Path:
    """One file that holds everything, pictures too. Without matplotlib it has no plots, and says so."""
    title = f"Evaluation of {videos[0].name if len(videos) == 1 else f'{len(videos)} videos'}"
    body = [_comparison(videos)] if len(videos) > 1 else []
    for found in videos:
        body += [paragraph(found.name, "h2")] if len(videos) > 1 else []
        body += _section(found)
    body.append(paragraph(f"singer {__version__}. Definitions: docs/evaluation.md.", kind="quiet"))
    return write_text(path, page_of(title, body))


def page_of(title: str, body: Iterable[str]) -> str:
    """A whole HTML document."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{paragraph(title, 'h1')}{''.join(body)}</body></html>"
    )


def paragraph(text: str, tag: str = "p", kind: str = "") -> str:
    return f"<{tag}{f' class={kind!r}' if kind else ''}>{html.escape(text)}</{tag}>"


def bullets(items: Iterable[str], kind: str) -> str:
    return f"<ul class='{kind}'>{''.join(paragraph(item, 'li') for item in items)}</ul>"


def table_of(head: Sequence[Cell], rows: Iterable[Row], kind: str = "") -> str:
    """A table with a heading above the rows of each group."""
    parts = [_row("th", head)]
    for group, members in itertools.groupby(rows, key=lambda row: row[0]):
        parts.append(f"<tr class='group'><th colspan='{len(head)}'>{html.escape(group)}</th></tr>")
        parts += [_row("td", cells) for _, cells in members]
    return f"<div class='wide'><table class='{kind}'>{''.join(parts)}</table></div>"


def _row(tag: str, cells: Iterable[Cell]) -> str:
    return f"<tr>{''.join(paragraph(text, tag, kind) for kind, text in cells)}</tr>"


def _facts(found: Evaluation) -> str:
    info = found.info
    return (
        f"{found.name}: {info['frames']} frames, {info['fps']:g} fps, {info['size'][0]} x {info['size'][1]}, "
        f"{info['seconds']:.2f} s, clips of {info['clip_frames']}"
        + (f" that share {info['overlap']}" if info["overlap"] else "")
    )


def _section(found: Evaluation) -> list[str]:
    clean = paragraph("Nothing looks wrong.", kind="clean")
    return [
        paragraph(_facts(found), kind="facts"),
        bullets(found.findings, "findings") if found.findings else clean,
        _table(found),
        _plots(found),
        _sheet(found),
        silent_list(found.missing),
        bullets(found.notes, "quiet"),
    ]


def _table(found: Evaluation) -> str:
    head = [("", "metric"), ("value", "value"), ("", "better"), ("", "the authors' SINGER")]
    rows: list[Row] = []
    for key, value in found.values.items():
        metric = BY_KEY[key]
        cells = [("", metric.title), ("value", metric.shown(value))]
        rows.append((metric.group, [*cells, ("quiet", metric.better), ("quiet", metric.published)]))
    return table_of(head, rows)


def _comparison(videos: Sequence[Evaluation]) -> str:
    """A table of all videos; numbers are bare, units stand with the metrics."""
    rows: list[Row] = []
    for metric in METRICS:
        values = [found.values.get(metric.key) for found in videos]
        if any(value is not None for value in values):
            cells = [("value", "-" if value is None else metric.numeral(value)) for value in values]
            rows.append((metric.group, [("", metric.heading), ("quiet", metric.better), *cells]))
    head = [("", "metric"), ("", "better"), *(("name", found.name) for found in videos)]
    return table_of(head, rows, "many")


def _plots(found: Evaluation) -> str:
    try:
        return _image(plot_curves(found), f"curves of {found.name}")
    except RuntimeError as error:  # no matplotlib
        logger.warning("The report has no plots: %s", error)
        return paragraph(f"No plots: {error}", kind="quiet")


def _sheet(found: Evaluation) -> str:
    stream = io.BytesIO()
    contact_sheet(found).save(stream, "PNG")
    return _image(stream.getvalue(), f"frames of {found.name}")


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    source = f"src='data:image/png;base64,{data}'"
    return f"<div class='wide'><img alt='{html.escape(alt, quote=True)}' {source}></div>"

"""The report: text for a terminal, data for a program, one self-contained HTML file for people."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from .. import __version__
from ..files import write_text
from .evaluate import Evaluation
from .metric import METRICS, Metric, heading, numeral, shown
from .plots import contact_sheet, plot_curves

logger = logging.getLogger(__name__)

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto;
       max-width: 70rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.facts { color: #666; margin-top: .2rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid #e4e4e4;
         vertical-align: top; }
th { font-weight: 600; } th.name { text-align: right; } table.many td:first-child { min-width: 11rem; }
 th.value, td.value { text-align: right; white-space: nowrap; }
td.value { font-variant-numeric: tabular-nums; } td.quiet, .quiet { color: #777; }
tr.group th { padding-top: 1rem; color: #777; font-weight: 400; }
ul.findings li { color: #a3341a; } p.clean { color: #2a6b2a; }
.wide { overflow-x: auto; margin: 1rem 0; } .wide img { display: block; max-width: 100%; min-width: 38rem; }
@media (max-width: 40rem) { body { margin: 1rem auto; font-size: 14px; } td.value { white-space: normal; } }
"""


def report_text(found: Evaluation) -> str:
    """The table of one video, what looks wrong and what is not computed."""
    lines = [_facts(found), ""]
    for metric in METRICS:
        if metric.key in found.values:
            better = f"({metric.better})" if metric.better else ""
            lines.append(
                f"{metric.title:<42} {shown(metric.key, found.values[metric.key]):>24}  {better}".rstrip()
            )
    lines += ["", *(f"! {sentence}" for sentence in found.findings)]
    lines += [] if found.findings else ["Nothing looks wrong."]
    lines += [f"- {note}" for note in found.notes]
    if found.missing:
        lines += ["", "not computed:"]
        lines += [f"  {', '.join(keys)}: {reason}" for reason, keys in _reasons(found).items()]
    return "\n".join(lines)


def write_json(path: Path, videos: Sequence[Evaluation]) -> Path:
    data = {"singer": __version__, "videos": [found.to_json() for found in videos]}
    return write_text(path, json.dumps(data, indent=1, allow_nan=False))


def write_html(path: Path, videos: Sequence[Evaluation]) -> Path:
    """One file that holds everything, pictures too. Without matplotlib it has no plots, and says so."""
    title = f"Evaluation of {videos[0].name if len(videos) == 1 else f'{len(videos)} videos'}"
    body = [f"<h1>{html.escape(title)}</h1>"]
    if len(videos) > 1:
        body.append(_comparison(videos))
    body += [_section(found, heading=len(videos) > 1) for found in videos]
    body.append(f"<p class='quiet'>singer {__version__}. Definitions: docs/evaluation.md.</p>")
    return write_text(path, page_of(title, "".join(body)))


def page_of(title: str, body: str) -> str:
    """A whole HTML document."""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>"
    )


def grouped(rows: Iterable[tuple[Metric, str]], columns: int) -> str:
    """Table rows (metric, HTML) in the order of the metrics, each group of them under its heading."""
    parts: list[str] = []
    group = ""
    for metric, row in rows:
        if metric.group != group:
            group = metric.group
            parts.append(f"<tr class='group'><th colspan='{columns}'>{html.escape(group)}</th></tr>")
        parts.append(row)
    return "".join(parts)


def _facts(found: Evaluation) -> str:
    info = found.info
    return (
        f"{found.name}: {info['frames']} frames, {info['fps']:g} fps, {info['size'][0]} x {info['size'][1]}, "
        f"{info['seconds']:.2f} s, clips of {info['clip_frames']}"
        + (f" that share {info['overlap']}" if info["overlap"] else "")
    )


def _reasons(found: Evaluation) -> dict[str, list[str]]:
    """Why -> the metrics that it concerns."""
    reasons: dict[str, list[str]] = {}
    for key, reason in found.missing.items():
        reasons.setdefault(reason, []).append(key)
    return reasons


def _section(found: Evaluation, heading: bool) -> str:
    parts = [f"<h2>{html.escape(found.name)}</h2>"] if heading else []
    parts.append(f"<p class='facts'>{html.escape(_facts(found))}</p>")
    if found.findings:
        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in found.findings)
        parts.append(f"<ul class='findings'>{items}</ul>")
    else:
        parts.append("<p class='clean'>Nothing looks wrong.</p>")
    parts.append(_table(found))
    parts += [_plots(found), _sheet(found)]
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in found.notes)
    parts.append(f"<ul class='quiet'>{notes}</ul>" if notes else "")
    return "".join(parts)


def _table(found: Evaluation) -> str:
    rows = []
    for metric in METRICS:
        if metric.key in found.values:
            value = shown(metric.key, found.values[metric.key])
            rows.append(
                (metric, _row(metric, f"<td class='value'>{html.escape(value)}</td>", metric.published))
            )
    missing = []
    for reason, keys in _reasons(found).items():
        names = ", ".join(metric.title for metric in METRICS if metric.key in keys)
        missing.append(
            f"<tr><td class='quiet'>{html.escape(names)}</td>"
            f"<td class='quiet' colspan='3'>{html.escape(reason)}</td></tr>"
        )
    if missing:
        missing.insert(0, "<tr class='group'><th colspan='4'>Not computed</th></tr>")
    head = "<tr><th>metric</th><th class='value'>value</th><th>better</th><th>the authors' SINGER</th></tr>"
    return f"<table>{head}{grouped(rows, 4)}{''.join(missing)}</table>"


def _row(metric: Metric, cells: str, published: str) -> str:
    return (
        f"<tr><td>{html.escape(metric.title)}</td>{cells}<td class='quiet'>{metric.better}</td>"
        f"<td class='quiet'>{html.escape(published)}</td></tr>"
    )


def _comparison(videos: Sequence[Evaluation]) -> str:
    """A table of all videos; numbers are bare, units stand with the metrics."""
    rows = []
    for metric in METRICS:
        if any(metric.key in found.values for found in videos):
            cells = [
                numeral(metric.key, f.values[metric.key]) if metric.key in f.values else "-" for f in videos
            ]
            joined = "".join(f"<td class='value'>{cell}</td>" for cell in cells)
            title = html.escape(heading(metric.key))
            rows.append((metric, f"<tr><td>{title}</td><td class='quiet'>{metric.better}</td>{joined}</tr>"))
    names = [html.escape(found.name).replace("/", "/<wbr>") for found in videos]
    head = "".join(f"<th class='name'>{name}</th>" for name in names)
    table = f"<tr><th>metric</th><th>better</th>{head}</tr>{grouped(rows, len(videos) + 2)}"
    return f"<div class='wide'><table class='many'>{table}</table></div>"


def _plots(found: Evaluation) -> str:
    try:
        return _image(plot_curves(found), f"curves of {found.name}")
    except RuntimeError as error:  # no matplotlib
        logger.warning("The report has no plots: %s", error)
        return f"<p class='quiet'>No plots: {html.escape(str(error))}</p>"


def _sheet(found: Evaluation) -> str:
    if not found.thumbnails:
        return ""
    stream = io.BytesIO()
    contact_sheet(found).save(stream, "PNG")
    return _image(stream.getvalue(), f"frames of {found.name}")


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    source = f"src='data:image/png;base64,{data}'"
    return f"<div class='wide'><img alt='{html.escape(alt, quote=True)}' {source}></div>"

"""Measured clips as one page of HTML that needs nothing else: pictures are inside it, names are escaped."""

from __future__ import annotations

import base64
import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np

from lipsync_cli import __version__
from lipsync_cli.tasks.offset_plot import draw
from lipsync_cli.tasks.offset_record import Record, programme_words, span

TEMPLATE = Path(__file__).with_suffix(".html")
THUMBNAIL_PX = 128
LAMPS = {
    "PASS": ("good", "PASS"),
    "FAIL": ("bad", "FAIL"),
    "INDETERMINATE": ("unsure", "INDETERMINATE"),
    "ok": ("done", "MEASURED"),
    "inconclusive": ("unsure", "CANNOT TELL"),
    "error": ("none", "UNUSABLE"),
}


@dataclass(frozen=True, eq=False)
class ReportClip:
    """A record and, by track id, the JPEGs of its faces; a clip measured by an earlier run has none."""

    record: Record
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)


def thumbnail(portrait: np.ndarray) -> bytes:
    """portrait: (S, S, 3) uint8 RGB → JPEG."""
    side = min(THUMBNAIL_PX, portrait.shape[0])
    small = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[
        1
    ].tobytes()


def report_html(clips: Sequence[ReportClip]) -> str:
    """The page: a table of all clips where there are several, then each with its curves and faces."""
    now = datetime.datetime.now().astimezone()
    counts = Counter(_lamp_of(clip.record)[1] for clip in clips)
    tally = ", ".join(f"{count} {name.lower()}" for name, count in counts.most_common())
    models = " ".join(sorted({clip.record["model"] for clip in clips if "model" in clip.record}))
    about = [f"{_count(len(clips), 'clip')}: {tally}", *([f"model {models}"] if models else [])]
    about += [f"lipsync {__version__}", f"{now:%Y-%m-%d %H:%M %Z}"]
    return Template(TEMPLATE.read_text("utf-8")).substitute(
        title="Lips and sound",
        about=escape(" · ".join(about)),
        summary=_summary(clips) if len(clips) > 1 else "",
        clips="\n".join(_clip(number, clip) for number, clip in enumerate(clips, 1)),
    )


def _summary(clips: Sequence[ReportClip]) -> str:
    rows = [
        (
            _lamp(clip.record),
            f'<a href="#clip-{number}">{escape(clip.record["input"])}</a>',
            _lead(clip.record),
            _interval(clip.record),
            escape(clip.record.get("words", clip.record.get("message", ""))),
        )
        for number, clip in enumerate(clips, 1)
    ]
    return f'<div class="summary">{_table(("", "clip", "lead, ms", "95 % interval", "answer"), rows, numbers=(2, 3))}</div>'


def _clip(number: int, clip: ReportClip) -> str:
    record = clip.record
    head = f'<div class="head"><h2>{escape(record["input"])}</h2>{_lamp(record)}</div>'
    if record["status"] == "error":
        hint = f'<p class="muted">{escape(record["hint"])}</p>' if record.get("hint") else ""
        return f'<section id="clip-{number}">{head}<p class="words">{escape(record["message"])}</p>{hint}</section>'
    parts = [head, f'<p class="words">{escape(_sentence(record["words"]))}</p>']
    if record["verdict"]:
        parts.append(f"<p>{escape(record['verdict']['words'])}</p>")
    facts = (
        f"{record['duration_s']:.1f} s at {record['frame_rate']:.6g} frames per second",
        f"sound track {record['audio_track']}",
        f"confidence {record['confidence']:.2f}",
        f"model {record['model']}",
    )
    parts.append(f'<p class="muted">{escape(" · ".join(facts))}</p>')
    lines = "\n".join(programme_words(record))
    parts += [f"<pre>{escape(lines)}</pre>"] if lines else []
    curves = _data_uri(draw(record, format="svg", title=False), "image/svg+xml")
    parts.append(f'<img class="curve" alt="lag curve of {escape(record["input"])}" src="{curves}">')
    parts.append(_faces(record, clip.thumbnails))
    return f'<section id="clip-{number}">{"".join(parts)}</section>'


def _faces(record: Record, thumbnails: Mapping[int, bytes]) -> str:
    rows = []
    for face in record["faces"]:
        picture = thumbnails.get(face["face"])
        image = ""
        if picture:
            image = f'<img class="face" alt="face {face["face"]}" src="{_data_uri(picture, "image/jpeg")}">'
        rows.append(
            (
                image,
                str(face["face"]),
                str(face["shot"]),
                escape(span(record, face)),
                _lead(face),
                _interval(face),
                f"{face['confidence']:.2f}",
                "speaking" if face["speaking"] else "",
                escape("; ".join(reason["words"] for reason in face["reasons"])),
            )
        )
    columns = (
        "",
        "face",
        "shot",
        "from – to",
        "lead, ms",
        "95 % interval",
        "confidence",
        "",
        "reasons to doubt",
    )
    return _table(columns, rows, numbers=(1, 2, 4, 5, 6))


def _lead(part: Record) -> str:
    lead_ms = part.get("audio_lead_ms")
    return "–" if lead_ms is None else f"{lead_ms:+.0f}"


def _interval(part: Record) -> str:
    low_high = part.get("interval_ms")
    return "–" if low_high is None else f"{low_high[0]:+.0f} … {low_high[1]:+.0f}"


def _lamp_of(record: Record) -> tuple[str, str]:
    verdict = record.get("verdict")
    return LAMPS[verdict["outcome"] if verdict else record["status"]]


def _lamp(record: Record) -> str:
    kind, words = _lamp_of(record)
    return f'<span class="lamp {kind}">{words}</span>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int]) -> str:
    """Cells are HTML already. numbers: columns that are set to the right."""
    kinds = [' class="number"' if index in numbers else "" for index in range(len(columns))]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, columns, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""Pictures of a record: the lag curve with its interval, and for long clips the lead over time."""

from __future__ import annotations

import io
import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from lipsync_cli.tasks.offset_record import Record, timecode

INK, MUTED, GRID = "#1f2933", "#8a94a0", "#e4e8ec"
BLUE, AMBER, RED, GREEN = "#1f6feb", "#b7791f", "#c53030", "#2f855a"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text: small, and can be searched
    "text.parse_math": False,  # a $ in a file name is a $
}


def draw(record: Record, *, format: str, title: bool = True) -> bytes:
    """A measured clip as `png` or `svg`. title: the clip's name and answer stand above."""
    with matplotlib.rc_context(STYLE):
        programme = record.get("programme")
        figure = Figure(figsize=(9, 7.2 if programme else 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2 if programme else 1, squeeze=False)[:, 0]
        _lag_curve(axes[0], record)
        if programme:
            _time_course(axes[1], record)
        if title:
            name = record["input"].replace("\\", "/").rpartition("/")[2]
            figure.suptitle(
                _wrapped(f"{name}: {record['words']}"), x=0.01, ha="left", fontsize=11, weight="bold"
            )
        page = io.BytesIO()
        figure.savefig(page, format=format, dpi=150, metadata={"Date": None} if format == "svg" else None)
        return page.getvalue()


def _wrapped(text: str, width: int = 88) -> str:
    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))


def _lag_curve(axes: Any, record: Record) -> None:
    others = [face for face in record["faces"] if not face["speaking"]] if len(record["faces"]) > 1 else []
    for number, face in enumerate(others):
        label = None if number else "other faces"
        axes.plot(*_points(face["curve"]), color=MUTED, lw=0.9, alpha=0.7, label=label)
    leads_ms, similarity = _points(record["curve"])
    axes.plot(leads_ms, similarity, color=BLUE, lw=2, label="speaking" if len(record["faces"]) > 1 else None)
    verdict = record.get("verdict")
    if verdict:
        label = f"allowed by {verdict['standard']}"
        axes.axvspan(-verdict["late_ms"], verdict["early_ms"], color=GREEN, alpha=0.10, lw=0, label=label)
    if record["audio_lead_ms"] is not None:
        low, high = record["interval_ms"]
        axes.axvspan(
            low, high, color=BLUE, alpha=0.25, lw=0, label=f"95 % interval, {low:+.0f} to {high:+.0f} ms"
        )
        axes.axvline(record["audio_lead_ms"], color=BLUE, lw=1)
        side = 1 if record["audio_lead_ms"] > 0 else -1  # away from the line at 0
        axes.annotate(
            f"{record['audio_lead_ms']:+.0f} ms",
            (record["audio_lead_ms"], np.nanmax(similarity)),
            xytext=(6 * side, 4),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            color=BLUE,
            weight="bold",
        )
    axes.axvline(0, color=INK, lw=0.8, ls=":")
    if len(leads_ms):
        axes.set_xlim(leads_ms[0], leads_ms[-1])
    axes.margins(y=0.14)
    axes.set_title("agreement of lips and sound")
    axes.set_xlabel("← sound late  ·  audio lead, ms  ·  sound early →")
    axes.set_ylabel("similarity (cosine)")
    _legend(axes)


def _points(curve: Record) -> tuple[np.ndarray, np.ndarray]:
    return np.array(curve["lead_ms"], float), np.array(curve["similarity"], float)  # None becomes NaN


def _time_course(axes: Any, record: Record) -> None:
    programme, start_s = record["programme"], record["start_s"]
    for trusted, style in ((True, {"color": BLUE}), (False, {"color": MUTED, "mfc": "white", "alpha": 0.6})):
        windows = [w for w in programme["windows"] if w["trusted"] == trusted and w["lead_ms"] is not None]
        if not windows:
            continue
        middles_s = [(w["start_s"] + w["end_s"]) / 2 - start_s for w in windows]
        axes.errorbar(
            middles_s,
            [w["lead_ms"] for w in windows],
            yerr=[2 * w["error_ms"] for w in windows] if trusted else None,
            fmt="o",
            ms=4,
            lw=1,
            label="10 s windows" if trusted else "windows with reasons to doubt",
            **style,
        )
    _fit(axes, programme, start_s)
    for time_s in programme["breakpoints_s"]:
        axes.axvline(time_s - start_s, color=RED, lw=1, ls="--")
        words = timecode(time_s - start_s, record["frame_rate"])
        axes.annotate(
            words,
            (time_s - start_s, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -4),
            textcoords="offset points",
            color=RED,
            fontsize=9,
            va="top",
        )
    axes.axhline(0, color=INK, lw=0.8, ls=":")
    axes.set_ylim(*_lead_range(programme["windows"]))
    axes.set_title("the lead through the clip")
    axes.set_xlabel("time from the start")
    axes.set_ylabel("audio lead, ms")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda time_s, _: _clock(time_s)))
    _legend(axes)


def _fit(axes: Any, programme: Record, start_s: float) -> None:
    label: str | None = "found"
    for piece in programme["pieces"]:
        ends_s = np.array([piece["start_s"], piece["end_s"]])
        leads_ms = np.full(2, piece["lead_ms"])
        if programme["kind"] == "drift":
            leads_ms = programme["intercept_ms"] + programme["drift_ppm"] * ends_s / 1000
        axes.plot(ends_s - start_s, leads_ms, color=AMBER, lw=2.2, label=label)
        label = None


def _lead_range(windows: list[Record]) -> tuple[float, float]:
    """Holds 0 and every trusted window with its error; the rest may fall outside."""
    used = [w for w in windows if w["trusted"] and w["lead_ms"] is not None] or [
        w for w in windows if w["lead_ms"] is not None
    ]
    ends = [0.0] + [w["lead_ms"] + side * min(2 * w["error_ms"], 200) for w in used for side in (-1, 1)]
    margin = 0.15 * max(max(ends) - min(ends), 40.0)
    return min(ends) - margin, max(ends) + margin


def _clock(time_s: float) -> str:
    whole = round(time_s)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderaxespad=0.1, columnspacing=1.2)

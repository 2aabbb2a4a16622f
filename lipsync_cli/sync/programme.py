"""Long programmes: does the lead stay, drift, or jump?

The programme is measured in windows. Three descriptions compete: one constant lead, a straight line (clocks
that
disagree: drift), and pieces (splices: the lead jumps and stays). Each window's error is counted up to a cap,
so a window that found a wrong peak costs the same wherever it lies; the description with the least cost plus
a price per number it needs wins (a robust BIC).

Shapes: N windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.stats import theilslopes

from lipsync_cli.sync.estimate import LeadConfig, estimate_from_band
from lipsync_cli.sync.similarity import Band

GRID_MS = 2.0  # resolution at which jumps are searched; leads themselves are averages, not grid points
CAP_ERRORS = 3.0  # a window further off than this many of its standard errors counts as an outlier
FLOOR_MS = 3.0  # no window is trusted to better than this: two neighbours never differ by less for a reason
MIN_WINDOWS = 3  # a line or a piece needs this many
MIN_JUMP_MS = 10.0  # smaller steps are not called splices
REFINE_STEPS = 20  # rounds of reweighting; it settles within ten


@dataclass(frozen=True)
class WindowLead:
    """One window's answer.

    Times are seconds of picture.  error_ms: one standard error.  trusted: no reasons to doubt.
    """

    start_s: float
    end_s: float
    lead_ms: float
    error_ms: float
    trusted: bool

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True)
class Line:
    """lead(t) = intercept_ms + drift_ppm · t / 1000, t in seconds of picture; each with its standard error.

    drift_ppm > 0: the sound runs fast and comes ever earlier; played for 1 + drift_ppm/10⁶ of its time it
    stays.
    """

    intercept_ms: float
    intercept_error_ms: float
    drift_ppm: float
    drift_error_ppm: float

    def at(self, time_s: float) -> float:
        return self.intercept_ms + self.drift_ppm * time_s / 1000


@dataclass(frozen=True)
class Piece:
    """A stretch of picture with one lead. error_ms: standard error.  windows: trusted windows inside it."""

    start_s: float
    end_s: float
    lead_ms: float
    error_ms: float
    windows: int


@dataclass(frozen=True)
class Programme:
    """kind: which description won; "unknown" when too few windows are trusted.

    line: the robust fit to the whole programme, whichever won; its drift is 0 for a constant.  None when
    unknown.
    pieces: one for a constant or a drift (then its lead is that of the middle), else two or more; breakpoints
    are where they meet.
    """

    kind: Literal["constant", "drift", "pieces", "unknown"]
    line: Line | None
    pieces: tuple[Piece, ...]
    windows: tuple[WindowLead, ...]

    @property
    def breakpoints_s(self) -> tuple[float, ...]:
        return tuple(piece.start_s for piece in self.pieces[1:])

    @property
    def change_ms(self) -> float:
        """How far apart the least and the greatest lead of the winning description are."""
        leads = [piece.lead_ms for piece in self.pieces]
        if self.kind == "drift" and self.line is not None:
            leads = [self.line.at(self.pieces[0].start_s), self.line.at(self.pieces[-1].end_s)]
        return max(leads, default=0.0) - min(leads, default=0.0)


def measure_windows(
    band: Band, *, window_s: float = 10.0, config: LeadConfig | None = None
) -> tuple[WindowLead, ...]:
    """Measure every window on its own. Windows do not overlap, so that their errors are independent."""
    config = config or LeadConfig()
    length = max(1, round(window_s * float(band.frame_rate)))
    windows = []
    for first in range(0, max(len(band.values) - length // 2, 1), length):
        end = min(first + length, len(band.values))
        found = estimate_from_band(band.between(first, end), config=config)
        width_ms = found.interval_high_ms - found.interval_low_ms
        windows.append(
            WindowLead(
                start_s=first / float(band.frame_rate),
                end_s=end / float(band.frame_rate),
                lead_ms=found.audio_lead_ms,
                error_ms=max(width_ms / 4, FLOOR_MS),  # a 95 % interval is four standard errors wide
                trusted=found.trusted,
            )
        )
    return tuple(windows)


def describe(
    windows: Sequence[WindowLead], band: Band | None = None, config: LeadConfig | None = None
) -> Programme:
    """Choose among constant, drift and pieces.

    With the band the windows came from, splices are placed to the frame.

    config: the one the windows were measured with; only its bias matters here.
    """
    used = [window for window in windows if window.trusted and np.isfinite(window.lead_ms)]
    if len(used) < MIN_WINDOWS:
        return Programme("unknown", None, (), tuple(windows))
    times = np.array([window.middle_s for window in used])
    leads = np.array([window.lead_ms for window in used])
    errors = np.array([window.error_ms for window in used])
    line = fit_line(times, leads, errors)
    ends = find_pieces(leads, errors)
    steps = np.concatenate(
        [np.full(end - start, _level(leads[start:end], errors[start:end])[0]) for start, end in ends]
    )
    costs = {
        "constant": _cost(leads - _level(leads, errors)[0], errors) + _price(1, len(used)),
        "drift": _cost(leads - (line.intercept_ms + line.drift_ppm * times / 1000), errors)
        + _price(2, len(used)),
        "pieces": _cost(leads - steps, errors) + _price(2 * len(ends) - 1, len(used)),
    }
    kind = min(costs, key=costs.__getitem__)
    if kind == "pieces" and len(ends) > 1:
        pieces = _pieces(windows, used, ends, band, (config or LeadConfig()).bias_ms)
        return Programme("pieces", line, pieces, tuple(windows))
    whole = Piece(windows[0].start_s, windows[-1].end_s, *_level(leads, errors), len(used))
    if kind == "drift":
        return Programme("drift", line, (whole,), tuple(windows))
    return Programme("constant", Line(whole.lead_ms, whole.error_ms, 0.0, 0.0), (whole,), tuple(windows))


def fit_line(times_s: np.ndarray, leads_ms: np.ndarray, errors_ms: np.ndarray) -> Line:
    """A straight line that wrong windows cannot bend: Theil–Sen to start, then Tukey's biweight to the end.

    The standard errors come from the scatter about the line, or from the windows' own errors where those are
    larger.
    """
    slope, intercept, _, _ = theilslopes(leads_ms, times_s)
    design = np.column_stack([np.ones_like(times_s), times_s])
    solution = np.array([intercept, slope])
    weights = np.ones_like(times_s)
    for _ in range(REFINE_STEPS):
        residuals = leads_ms - design @ solution
        scale = 1.4826 * np.median(np.abs(residuals / errors_ms))
        distance = residuals / errors_ms / max(4.685 * scale, 4.685)
        weights = np.where(np.abs(distance) < 1, (1 - distance**2) ** 2, 0) / errors_ms**2
        normal = design.T @ (weights[:, None] * design)
        solution = np.linalg.lstsq(normal, design.T @ (weights * leads_ms), rcond=None)[0]
    residuals = leads_ms - design @ solution
    freedom = max(np.count_nonzero(weights) - 2, 1)
    inflation = max(1.0, float(np.sum(weights * residuals**2)) / freedom)
    errors = np.sqrt(np.diag(np.linalg.pinv(normal)) * inflation)
    return Line(float(solution[0]), float(errors[0]), float(solution[1]) * 1000, float(errors[1]) * 1000)


def find_pieces(leads_ms: np.ndarray, errors_ms: np.ndarray) -> list[tuple[int, int]]:
    """The cheapest split into stretches of constant lead: [(first window, end window)…], found exactly.

    Dynamic programming over a grid of leads: stay for nothing or jump for the price of one jump, paying each
    window's capped squared error. Pieces of fewer than MIN_WINDOWS windows, and jumps smaller than
    MIN_JUMP_MS, are then given to their nearer neighbour.
    """
    grid = np.arange(leads_ms.min() - GRID_MS, leads_ms.max() + 2 * GRID_MS, GRID_MS)
    price = _price(2, len(leads_ms))
    total = np.zeros(len(grid))
    came_from = np.empty((len(leads_ms), len(grid)), int)
    for window, (lead, error) in enumerate(zip(leads_ms, errors_ms, strict=True)):
        cheapest = int(total.argmin())
        jumps = total[cheapest] + price < total
        came_from[window] = np.where(jumps, cheapest, np.arange(len(grid)))
        total = np.where(jumps, total[cheapest] + price, total) + _capped((lead - grid) / error)
    state = int(total.argmin())
    states = []
    for window in range(len(leads_ms) - 1, -1, -1):
        states.append(state)
        state = int(came_from[window, state])
    changes = np.flatnonzero(np.diff(states[::-1])) + 1
    bounds = [0, *changes.tolist(), len(leads_ms)]
    return _merge_small(list(pairwise(bounds)), leads_ms, errors_ms)


def refine_breakpoint(
    band: Band, lead_before_ms: float, lead_after_ms: float, first_s: float, end_s: float
) -> float:
    """Seconds of picture at which the lead changes, to the frame, somewhere in first_s..end_s.

    Chooses the frame with the most similarity at the first lead before it and at the second after it. The
    leads are
    those of the band: uncorrected by any bias.
    """
    rate = float(band.frame_rate)
    first, end = max(0, round(first_s * rate)), min(len(band.values), round(end_s * rate))
    columns = [int(np.abs(band.leads_ms - lead).argmin()) for lead in (lead_before_ms, lead_after_ms)]
    gain = np.nan_to_num(band.values[first:end, columns[0]] - band.values[first:end, columns[1]])
    return (first + int(np.concatenate([[0.0], gain.cumsum()]).argmax())) / rate


def _merge_small(
    ends: list[tuple[int, int]], leads_ms: np.ndarray, errors_ms: np.ndarray
) -> list[tuple[int, int]]:
    while len(ends) > 1:
        levels = [_level(leads_ms[start:end], errors_ms[start:end])[0] for start, end in ends]
        jumps = np.abs(np.diff(levels))
        short = [index for index, (start, end) in enumerate(ends) if end - start < MIN_WINDOWS]
        if short:
            piece = min(short, key=lambda index: ends[index][1] - ends[index][0])
            beside = [jump for jump in (piece - 1, piece) if 0 <= jump < len(jumps)]
            join = min(beside, key=lambda jump: jumps[jump])
        elif jumps.min() < MIN_JUMP_MS:
            join = int(jumps.argmin())
        else:
            break
        ends[join : join + 2] = [(ends[join][0], ends[join + 1][1])]
    return ends


def _pieces(windows, used, ends, band: Band | None, bias_ms: float) -> tuple[Piece, ...]:
    levels = [
        _level(
            np.array([w.lead_ms for w in used[start:end]]), np.array([w.error_ms for w in used[start:end]])
        )
        for start, end in ends
    ]
    bounds = [windows[0].start_s]
    for index in range(1, len(ends)):
        last, following = used[ends[index - 1][1] - 1], used[ends[index][0]]
        if band is None:
            bounds.append((last.end_s + following.start_s) / 2)
        else:
            before, after = levels[index - 1][0] + bias_ms, levels[index][0] + bias_ms
            bounds.append(refine_breakpoint(band, before, after, last.start_s, following.end_s))
    bounds.append(windows[-1].end_s)
    return tuple(
        Piece(bounds[index], bounds[index + 1], *levels[index], end - start)
        for index, (start, end) in enumerate(ends)
    )


def _level(leads_ms: np.ndarray, errors_ms: np.ndarray) -> tuple[float, float]:
    """A robust mean and its standard error: the average of the windows within the cap of the median."""
    centre = float(np.median(leads_ms))
    for _ in range(REFINE_STEPS):
        scale = max(1.0, 1.4826 * float(np.median(np.abs(leads_ms - centre) / errors_ms)))
        weights = (np.abs(leads_ms - centre) <= CAP_ERRORS * scale * errors_ms) / errors_ms**2
        if weights.sum() == 0:
            break
        centre = float(np.average(leads_ms, weights=weights))
    return centre, float(scale / np.sqrt(max(weights.sum(), 1e-12)))


def _capped(distances: np.ndarray) -> np.ndarray:
    return np.minimum(distances**2, CAP_ERRORS**2)


def _cost(residuals_ms: np.ndarray, errors_ms: np.ndarray) -> float:
    return float(_capped(residuals_ms / errors_ms).sum())


def _price(numbers: int, windows: int) -> float:
    """What a description that needs this many numbers must save in cost (BIC)."""
    return numbers * float(np.log(windows))

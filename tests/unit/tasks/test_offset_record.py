"""Records, and the files made of them: JSON Lines that survive a kill, CSV, plot, report."""

import base64
import copy
import csv
import io
import json
import os
import re
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from lipsync_cli.core.errors import InputError, ResourceError, UsageError
from lipsync_cli.sync.estimate import LeadEstimate
from lipsync_cli.sync.programme import Line, Piece, Programme, WindowLead
from lipsync_cli.sync.reasons import Evidence, Reason
from lipsync_cli.sync.verdict import judge, standard
from lipsync_cli.tasks.offset import FaceLead, OffsetResult, _on_container_time
from lipsync_cli.tasks.offset_plot import draw
from lipsync_cli.tasks.offset_record import (
    error_record,
    programme_words,
    recorded_error,
    request_key,
    result_record,
    timecode,
)
from lipsync_cli.tasks.offset_report import ReportClip, report_html, thumbnail
from lipsync_cli.tasks.offset_results import ResultsFile, csv_text

LEADS_MS = np.linspace(-600, 600, 121)
OPTIONS = {"model": "tiny", "face": None}


def estimate(lead_ms: float = 82.0, *reasons: str) -> LeadEstimate:
    curve = np.exp(-(((LEADS_MS - lead_ms) / 60) ** 2))
    curve[:3] = np.nan
    doubts = tuple(Reason(code, f"because of {code}") for code in reasons)
    return LeadEstimate(
        lead_ms, lead_ms - 6, lead_ms + 6, 0.987654, 0.5, 0.01, LEADS_MS, curve, doubts, Evidence(), 75
    )


def result(*reasons: str, programme: Programme | None = None) -> OffsetResult:
    found = estimate(82.0, *reasons)
    face = FaceLead(
        3,
        1,
        10.0,
        13.0,
        True,
        found,
        "words",
        np.array([0.1, 0.2, 0.3, 0.4]),
        np.full((96, 96, 3), (200, 20, 20), np.uint8),
    )
    return OffsetResult(
        clip=Path("a/clip.mp4"),
        model="tiny",
        frame_rate=Fraction(24000, 1001),
        start_s=10.0,
        duration_s=3.0,
        audio_track=0,
        estimate=found,
        words="sound is EARLY by 82 ms",
        suggested_audio_delay_ms=None if reasons else 82.0,
        faces=(face,),
        programme=programme,
        verdict=judge(76, 88, standard("ebu-r37", Fraction(25)), trusted=not reasons),
    )


def plain(record):
    """As `cli.output.as_json` leaves it: lists, and null for what is no number."""
    text = json.dumps(record, default=lambda value: value.tolist())
    return json.loads(re.sub(r"\bNaN\b", "null", text))


def jumping() -> Programme:
    windows = tuple(
        WindowLead(10 + 10 * n, 20 + 10 * n, lead, 5.0, trusted)
        for n, (lead, trusted) in enumerate(
            [(0.0, True), (float("nan"), False), (500.0, False), (120.0, True)]
        )
    )
    pieces = (Piece(10.0, 30.48, 0.0, 3.0, 1), Piece(30.48, 50.0, 120.0, 3.0, 1))
    return Programme("pieces", Line(0.0, 1.0, 1.0, 1.0), pieces, windows)


def test_a_trusted_answer_is_numbers():
    record = result_record(result(), {"options": OPTIONS})
    assert (record["status"], record["exit_code"], record["audio_lead_ms"]) == ("ok", 0, 82.0)
    assert record["interval_ms"] == [76.0, 88.0] and record["suggested_audio_delay_ms"] == 82.0
    assert record["verdict"]["outcome"] == "FAIL" and record["verdict"]["standard"] == "ebu-r37"
    assert record["frame_rate"] == pytest.approx(23.976024) and record["faces"][0]["face"] == 3


def test_a_doubtful_answer_is_reasons_and_no_number():
    record = result_record(result("music"), {})
    assert (record["status"], record["exit_code"]) == ("inconclusive", 4)
    assert record["audio_lead_ms"] is record["interval_ms"] is record["suggested_audio_delay_ms"] is None
    assert record["reasons"] == [{"code": "music", "words": "because of music"}]
    assert plain(record)["curve"]["similarity"][0] is None


def test_errors_come_back_as_they_were():
    error = recorded_error(error_record(Path("a.mp4"), InputError("a.mp4: no face.", "look"), {}))
    assert type(error) is InputError and (error.message, error.hint) == ("a.mp4: no face.", "look")


@pytest.mark.parametrize(
    ("time_s", "rate", "shown"),
    [
        (0, 25, "00:00:00:00"),
        (1 / 25, 25, "00:00:00:01"),
        (3725.48, 25, "01:02:05:12"),
        (1001 / 24, 24000 / 1001, "00:00:41:16"),  # 1000 frames counted by 24
        (-0.5, 25, "00:00:00:00"),
    ],
)
def test_timecode(time_s, rate, shown):
    assert timecode(time_s, rate) == shown


def test_jumps_are_told_as_timecode_from_the_start_of_the_clip():
    words = programme_words(plain(result_record(result(programme=jumping()), {})) | {"frame_rate": 25.0})
    assert words == [
        "programme: the lead jumps once",
        "  00:00:00:00 – 00:00:20:12  0 ms ± 6",
        "  00:00:20:12 – 00:00:40:00  120 ms early ± 6",
    ]


def test_drift_is_told_as_ppm():
    drifting = Programme(
        "drift", Line(0.0, 1.0, -41.2, 2.0), (Piece(10.0, 50.0, 1.0, 1.0, 4),), jumping().windows
    )
    assert programme_words(plain(result_record(result(programme=drifting), {}))) == [
        "programme: the sound drifts, 41 ± 4 ppm slow, from 0 ms to 2 ms late"
    ]


def test_programmes_on_container_time_say_the_same():
    moved = _on_container_time(jumping(), 100.0)
    before, after = jumping().line, moved.line
    assert before and after and after.at(150.0) == pytest.approx(before.at(50.0))
    assert moved.breakpoints_s == (130.48,) and moved.windows[3].start_s == 140.0
    assert moved.windows[0].lead_ms == jumping().windows[0].lead_ms


# ---------------------------------------------------------------- RESULTS.jsonl


def ok(clip: Path, options=OPTIONS):
    return {"input": str(clip), "status": "ok", "exit_code": 0, **request_key(clip, options)}


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"picture")
    return path


def test_resumed_results_are_known_and_a_half_line_is_dropped(clip, tmp_path):
    path = tmp_path / "results.jsonl"
    ResultsFile(path, resume=True).add(ok(clip))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"schema": "lipsync.off')
    results = ResultsFile(path, resume=True)
    assert results.recorded(clip, request_key(clip, OPTIONS))
    assert results.recorded(tmp_path / "other.mp4", request_key(clip, OPTIONS)) is None
    results.add({"input": "b", "exit_code": 0})
    assert path.read_bytes().startswith(whole) and len(path.read_bytes().splitlines()) == 2


def test_names_may_hold_anything(tmp_path):
    path, clip = tmp_path / "results.jsonl", tmp_path / 'a\u2028b\x85"c.mp4'
    ResultsFile(path, resume=True).add(ok(clip))
    assert ResultsFile(path, resume=True).recorded(clip, request_key(clip, OPTIONS))


def test_a_full_disk_leaves_no_half_line(clip, tmp_path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("/dev/full is not there")
    (tmp_path / "results.jsonl").symlink_to(full)
    with pytest.raises(ResourceError, match="cannot be written") as caught:
        ResultsFile(tmp_path / "results.jsonl", resume=False).add(ok(clip))
    assert caught.value.exit_code == 6


def test_other_options_or_another_file_are_measured_again(clip, tmp_path):
    path = tmp_path / "results.jsonl"
    ResultsFile(path, resume=True).add(ok(clip))
    results = ResultsFile(path, resume=True)
    assert results.recorded(clip, request_key(clip, {**OPTIONS, "model": "base"})) is None
    os.utime(clip, (1, 1))
    assert results.recorded(clip, request_key(clip, OPTIONS)) is None


@pytest.mark.parametrize(
    ("code", "kept"), [(0, True), (3, True), (4, True), (1, False), (5, False), (6, False)]
)
def test_what_was_not_the_clips_fault_is_tried_again(code, kept, clip, tmp_path):
    path = tmp_path / "results.jsonl"
    ResultsFile(path, resume=True).add({**ok(clip), "exit_code": code})
    known = ResultsFile(path, resume=True).recorded(clip, request_key(clip, OPTIONS))
    assert (known is not None) == kept


def test_without_resume_it_begins_anew(clip, tmp_path):
    path = tmp_path / "results.jsonl"
    ResultsFile(path, resume=False).add(ok(clip))
    old = path.read_bytes()
    results = ResultsFile(path, resume=False)
    assert results.recorded(clip, request_key(clip, OPTIONS)) is None
    assert path.read_bytes() == old  # until there is something to put in its place
    for name in ("b.mp4", "c.mp4"):
        results.add({"input": name})
    assert [json.loads(line)["input"] for line in path.read_text().splitlines()] == ["b.mp4", "c.mp4"]


@pytest.mark.parametrize("content", ["notes\n", '{"schema": "other/1", "input": "a"}\n', "[]\n"])
def test_a_file_of_something_else_is_refused(content, tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match="line 1") as caught:
        ResultsFile(path, resume=True)
    assert caught.value.exit_code == 2 and path.read_text() == content


# ---------------------------------------------------------------- CSV, plot, report


def test_csv_quotes_what_needs_it():
    record = plain(result_record(result("music", "profile"), {})) | {"input": 'a, "b".mp4'}
    rows = list(csv.DictReader(io.StringIO(csv_text([record]))))
    assert [row["input"] for row in rows] == ['a, "b".mp4'] * 2
    assert [row["face"] for row in rows] == ["", "3"] and rows[1]["speaking"] == "true"
    assert rows[0]["reasons"] == "music profile" and rows[0]["audio_lead_ms"] == ""
    assert (rows[0]["start_s"], rows[0]["end_s"]) == ("10.0", "13.0")


def test_the_png_has_the_size_of_a_screen_and_ink_on_it():
    png = draw(plain(result_record(result(programme=jumping()), {})), format="png")
    assert struct.unpack(">II", png[16:24]) == (1350, 1080)
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    blue = (abs(image.astype(int) - (235, 111, 31)).max(axis=2) < 30).sum()  # #1f6feb, as OpenCV orders it
    assert blue > 1000


@pytest.mark.parametrize("reasons", [(), ("music",)])
def test_the_svg_says_the_numbers(reasons):
    record = plain(result_record(result(*reasons, programme=jumping()), {}))
    record["input"] = "$x_1$ & <b>.mp4"
    svg = draw(record, format="svg").decode()
    assert ("95 % interval, +76 to +88 ms" in svg) == (not reasons)
    assert "00:00:20:1" in svg and "allowed by ebu-r37" in svg and "$x_1$ &amp; &lt;b&gt;.mp4" in svg


def test_a_curve_of_nothing_is_drawn_all_the_same():
    record = plain(result_record(result("too-short"), {}))
    record["curve"]["similarity"] = [None] * 121
    assert draw(record, format="png").startswith(b"\x89PNG")


def test_the_report_shows_faces_lamps_and_names_as_they_are():
    good = plain(result_record(result(), {}))
    evil = {**copy.deepcopy(good), "input": '"><img src=x onerror=alert(1)>.mp4'}
    broken = error_record(Path("c.mp4"), InputError("c.mp4: <no> face.", "look"), {})
    page = report_html(
        [ReportClip(good, {3: thumbnail(result().faces[0].portrait)}), ReportClip(evil), ReportClip(broken)]
    )
    assert "<img src=x" not in page and "&lt;no&gt; face" in page
    assert page.count('class="lamp bad">FAIL') == 4 and page.count('class="lamp none">UNUSABLE') == 2
    (portrait,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(portrait), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (96, 96, 3) and abs(image.mean(axis=(0, 1)) - (20, 20, 200)).max() < 4
    assert "00:00:00:00 – 00:00:03:00" in page

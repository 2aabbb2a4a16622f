"""What a result looks like as JSON and as a table, and how progress is told to a log."""

import json
import os
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lipsync_cli.cli.output import Output, as_json, size, table
from lipsync_cli.cli.progress import BarProgress, LineProgress, clock
from lipsync_cli.core.progress import SILENT


class Verdict(Enum):
    PASS = "pass"


@dataclass(frozen=True)
class Inner:
    start: Fraction
    lead_ms: float


@dataclass(frozen=True)
class Result:
    input: Path
    verdict: Verdict
    curve: np.ndarray
    inner: tuple[Inner, ...]
    count: np.int64
    ok: np.bool_
    level: np.float32


def test_a_result_becomes_plain_json():
    result = Result(
        input=Path("a/b.mp4"),
        verdict=Verdict.PASS,
        curve=np.array([[1.5, np.nan]]),
        inner=(Inner(Fraction(1001, 24000), float("inf")),),
        count=np.int64(3),
        ok=np.bool_(True),
        level=np.float32(0.5),
    )
    assert as_json(result) == {
        "input": "a/b.mp4",
        "verdict": "pass",
        "curve": [[1.5, None]],
        "inner": [{"start": 1001 / 24000, "lead_ms": None}],
        "count": 3,
        "ok": True,
        "level": 0.5,
    }


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError, match="object has no JSON form"):
        as_json({"x": object()})


def test_schema_comes_first_and_nothing_else_is_on_stdout(capsys):
    output = Output(schema="lipsync.try/1", json=True)
    output.note("using cpu")
    output.warning("short clip")
    output.detail("only with --verbose")
    output.result({"name": "é"}, "not shown")
    out, err = capsys.readouterr()
    assert out == '{"schema": "lipsync.try/1", "name": "é"}\n'
    assert err == "using cpu\nwarning: short clip\n"


def test_text_is_the_other_form(capsys):
    Output(schema="lipsync.try/1").result({"name": 1}, "one")
    assert capsys.readouterr().out == "one\n"


def test_quiet_leaves_the_result(capsys):
    output = Output(schema="lipsync.try/1", quiet=True, verbose=True)
    output.note("using cpu")
    output.detail("more")
    output.result({}, "one")
    assert capsys.readouterr() == ("one\n", "")
    assert output.progress() is SILENT


def test_off_a_terminal_a_table_is_never_cut():
    long = "word " * 60
    lines = table(("name", "ms", "what"), [("a[b]", 1.5, long.strip()), ("c", 12, "x")]).splitlines()
    assert lines[0].split() == ["name", "ms", "what"]
    assert long.strip() in lines[2] and lines[2].startswith("a[b]")
    assert lines[2].index("1.5") + 3 == lines[3].index("12") + 2  # numbers end in the same column


@pytest.mark.parametrize(
    ("count", "text"), [(None, "?"), (159, "0.2 kB"), (3_637_574, "3.6 MB"), (5_072_222_488, "5.1 GB")]
)
def test_sizes(count, text):
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(44.6, "45 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_a_log_gets_a_line_with_rate_and_time_left(capsys):
    with LineProgress(every_s=0).stage("read", total=4) as stage:
        stage.note("loss 0.5")
        stage.advance(3)
    err = capsys.readouterr().err
    assert err.startswith("read: 3/4 frames, ")
    assert err.endswith("left, loss 0.5\n")


def test_a_short_stage_leaves_the_log_alone(capsys):
    with LineProgress().stage("read", total=4) as stage:
        stage.advance(4)
    assert capsys.readouterr() == ("", "")


def test_bars_may_be_nested_and_leave_stdout_alone(capsys):
    progress = BarProgress()
    with progress.stage("clips", 2, "clips") as outer, progress.stage("read", 3) as inner:
        inner.advance(3)
        inner.note("x")
        outer.advance()
    assert capsys.readouterr().out == ""


def test_a_result_printed_while_a_bar_is_up_stays_on_stdout(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    with BarProgress().stage("read", 3):
        Output(schema="lipsync.try/1").result({}, "one")
    out, err = capsys.readouterr()
    assert out == "one\n"
    assert "read" in err


def test_a_name_that_is_not_unicode_is_printed_escaped(capsys):
    output = Output(schema="lipsync.try/1", json=True)
    output.result({"input": Path(os.fsdecode(b"caf\xe9.mp4"))}, "")
    line = capsys.readouterr().out
    assert line == '{"schema": "lipsync.try/1", "input": "caf\\udce9.mp4"}\n'
    assert os.fsencode(json.loads(line)["input"]) == b"caf\xe9.mp4"


def test_a_progress_is_a_line_when_stderr_is_no_terminal():
    assert isinstance(Output(schema="lipsync.try/1").progress(), LineProgress)

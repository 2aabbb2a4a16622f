"""`lipsync resync` through the public command: what it writes, what it refuses."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.sync.estimate import LeadEstimate
from lipsync_cli.sync.programme import Line, Piece, Programme
from lipsync_cli.sync.reasons import VARIES, Evidence, Reason
from tests.media_clips import Clip, write_clip

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "talking_photo.mp4"


@pytest.fixture
def pcm(tmp_path):
    path = tmp_path / "clip.mov"
    write_clip(path, Clip(audio_codec="pcm_s16le"))
    return path


def packets_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            digest.update(bytes(packet))
    return digest.hexdigest()


def test_a_given_delay_is_applied_proved_and_told(pcm, capsys):
    before = pcm.read_bytes()
    assert main(["resync", str(pcm), "--delay-ms", "82.5", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    fixed = pcm.with_name("clip.resync.mov")
    assert next(iter(told)) == "schema"
    assert told["mode"] == "samples"
    assert told["achieved_ms"]["0"] == pytest.approx(82.5, abs=1000 / 48000)  # one sample
    assert pcm.read_bytes() == before
    assert packets_sha256(fixed) == packets_sha256(pcm)


def test_a_plan_writes_nothing(pcm, capsys):
    assert main(["resync", str(pcm), "--delay-ms", "40", "--dry-run"]) == 0
    assert "would write" in capsys.readouterr().out
    assert [path.name for path in pcm.parent.iterdir()] == ["clip.mov"]


@pytest.mark.parametrize(
    ("options", "code", "word"),
    [
        (["--delay-ms", "soon"], 2, "not a number"),
        (["--delay-ms", "40", "--mode", "magic"], 2, "unknown mode"),
        (["--delay-ms", "40", "--out", "{clip}"], 2, "the output is the input"),
        (["--delay-ms", "40", "--out", "{folder}/none/x.mov"], 2, "does not exist"),
        (["--delay-ms", "40", "--audio-track", "7"], 3, "track"),
        (["--device", "cuda:99"], 6, "not present"),
        (["--model", "nothing"], 5, "nothing"),
    ],
)
def test_what_cannot_be_meant_is_refused(pcm, capsys, options, code, word):
    given = [option.format(clip=pcm, folder=pcm.parent) for option in options]
    assert main(["resync", str(pcm), *given]) == code
    assert word in capsys.readouterr().err
    assert [path.name for path in pcm.parent.iterdir()] == ["clip.mov"]


def test_an_existing_output_is_kept(pcm, capsys):
    kept = pcm.with_name("clip.resync.mov")
    kept.write_text("mine")
    assert main(["resync", str(pcm), "--delay-ms", "40"]) == 2
    assert "exists" in capsys.readouterr().err
    assert kept.read_text() == "mine"
    assert main(["resync", str(pcm), "--delay-ms", "40", "--overwrite"]) == 0
    assert kept.stat().st_size > 100


def test_without_a_face_nothing_is_measured_nor_written(pcm, capsys):
    assert main(["resync", str(pcm)]) == 3
    assert "face" in capsys.readouterr().err
    assert [path.name for path in pcm.parent.iterdir()] == ["clip.mov"]


def test_the_example_is_measured_fixed_and_in_sync_afterwards(tmp_path, capsys):
    fixed = tmp_path / "fixed.mp4"
    assert main(["resync", str(EXAMPLE), "--out", str(fixed), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["audio_lead_before_ms"] == pytest.approx(120, abs=40)  # a frame: a drawn mouth is not a mouth
    assert abs(told["audio_lead_after_ms"]) < 10
    assert told["achieved_ms"]["0"] == pytest.approx(told["delay_ms"], abs=1)
    assert Fraction(told["tempo"]) == 1
    assert packets_sha256(fixed) == packets_sha256(EXAMPLE)


class DriftingMeter:
    """Says of every clip that its sound runs 100 ppm fast, 30 ms ahead at container second 0."""

    def __init__(self, model: str, device: str) -> None: ...

    def measure(self, request, progress):
        from lipsync_cli.tasks.offset import OffsetResult

        flat = np.zeros(3)
        reasons = (Reason("varies", VARIES),)
        lead = LeadEstimate(60, 55, 65, 0.9, 0.5, 0.01, flat, flat, reasons, Evidence(), 9000)
        whole = Piece(10, 610, 61, 2, 60)
        programme = Programme("drift", Line(30, 1, 100, 2), (whole,), ())
        words = f"cannot tell: {VARIES}"
        return OffsetResult(
            request.clip, "tiny", Fraction(25), 10, 600, 0, lead, words, None, (), programme, None
        )


def test_a_drift_is_told_with_the_command_that_undoes_it(pcm, capsys, monkeypatch):
    monkeypatch.setattr("lipsync_cli.tasks.offset.OffsetMeter", DriftingMeter)
    assert main(["resync", str(pcm)]) == 4
    said = capsys.readouterr().err
    assert VARIES in said
    assert "--delay-ms 31.0 --drift-ppm 100.0" in said  # 30 ms + 100 ppm of the 10 s before the first picture
    assert [path.name for path in pcm.parent.iterdir()] == ["clip.mov"]

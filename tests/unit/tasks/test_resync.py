"""`resync` through its task: modes, refusals, proof."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from lipsync_cli.core.errors import InconclusiveError, InputError, LipsyncError, UsageError
from lipsync_cli.media.picture import picture_summary
from lipsync_cli.tasks import resync as task
from lipsync_cli.tasks.resync import ResyncRequest, resync
from tests.media_clips import Clip, write_clip
from tests.unit.media.test_timeline import measured_lead


@pytest.mark.parametrize(
    ("suffix", "codec", "mode", "limit_ms"),
    [
        ("mov", "pcm_s24le", "samples", 1 / 48),
        ("mxf", "pcm_s16le", "samples", 1 / 48),
        ("mkv", "flac", "samples", 1 / 48),
        ("mp4", "aac", "edit", 1.0),
        ("mp4", "ac3", "edit", 1.0),
        ("mkv", "aac", "edit", 1.0),
        ("ts", "aac", "edit", 1.0),
    ],
)
def test_the_mode_fits_the_file_and_the_result_is_measured(tmp_path, suffix, codec, mode, limit_ms):
    source = tmp_path / f"clip.{suffix}"
    write_clip(source, Clip(audio_codec=codec))
    bytes_before = source.read_bytes()
    result = resync(ResyncRequest(input=source, delay_ms=Fraction(125, 2)))
    assert result.outputs == (tmp_path / f"clip.resync.{suffix}",) and result.mode == mode
    assert result.achieved_ms[0] == pytest.approx(62.5, abs=limit_ms)
    heard = measured_lead(source)[1] - measured_lead(result.outputs[0])[1]
    assert heard * 1000 == pytest.approx(62.5, abs=limit_ms + 0.01)
    assert result.picture_sha256 == picture_summary(source).sha256 and result.picture_packets == 50
    assert source.read_bytes() == bytes_before
    assert any("edit list" in w for w in result.warnings) == (suffix == "mp4")


def test_sign_a_positive_lead_is_delayed_away(tmp_path):
    write_clip(
        tmp_path / "early.mov", Clip(audio_codec="pcm_s16le", beep=Fraction(9, 10))
    )  # sound 100 ms early

    def measure(path):
        return Fraction(round(measured_lead(path)[1] * 48000), 48)

    result = resync(ResyncRequest(input=tmp_path / "early.mov"), measure=measure)
    assert (result.audio_lead_before_ms, result.delay_ms, result.audio_lead_after_ms) == (100.0, 100.0, 0.0)


def test_dry_run_writes_nothing(tmp_path):
    write_clip(tmp_path / "c.mp4")
    result = resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(40), dry_run=True))
    assert (result.mode, result.achieved_ms, result.dry_run) == ("edit", {}, True)
    assert [p.name for p in tmp_path.iterdir()] == ["c.mp4"]


def test_export_writes_data_only(tmp_path):
    write_clip(tmp_path / "c.mp4")
    result = resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(-80), mode="export"))
    data = json.loads((tmp_path / "c.resync.json").read_text())
    assert data["schema"] == "lipsync.correction/1" and data["suggested_audio_delay_ms"] == -80
    assert data["suggested_audio_delay_samples"] == [-3840] and data["suggested_audio_delay_frames"] == -2
    edl = (tmp_path / "c.resync.edl").read_text().splitlines()
    assert edl[2] == "001  AX       V     C        00:00:00:00 00:00:02:00 01:00:00:00 01:00:02:00"
    assert edl[4] == "002  AX       AA    C        00:00:00:02 00:00:02:00 01:00:00:00 01:00:01:23"
    assert result.achieved_ms == {}


@pytest.mark.parametrize(
    ("suffix", "codec", "request_", "words"),
    [
        ("mxf", "pcm_s16le", {"mode": "edit"}, "ignores timestamps"),
        ("mp4", "aac", {"mode": "samples"}, "no samples to move"),
        ("mp4", "aac", {"mode": "edit", "tempo": Fraction(25, 24)}, "cannot change the tempo"),
        ("mp4", "aac", {"tempo": Fraction(0)}, "tempo"),
    ],
)
def test_modes_that_cannot_be_are_usage_errors(tmp_path, suffix, codec, request_, words):
    write_clip(tmp_path / f"c.{suffix}", Clip(audio_codec=codec))
    with pytest.raises(UsageError, match=words) as caught:
        resync(ResyncRequest(input=tmp_path / f"c.{suffix}", delay_ms=Fraction(40), **request_))
    assert caught.value.exit_code == 2 and len(list(tmp_path.iterdir())) == 1


def test_a_change_that_did_not_happen_is_not_claimed(tmp_path, monkeypatch):
    """The writer is made to forget the delay: nothing may be written under the output's name."""
    write_clip(tmp_path / "c.mp4")
    real = task.write_corrected
    monkeypatch.setattr(
        task,
        "write_corrected",
        lambda source, target, correction, progress: real(
            source, target, task.Correction(Fraction(0), correction.mode), progress
        ),
    )
    with pytest.raises(InconclusiveError, match=r"moved by 0\.000 ms instead of 100\.000 ms") as caught:
        resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(100)))
    assert caught.value.exit_code == 4 and [p.name for p in tmp_path.iterdir()] == ["c.mp4"]


def test_a_changed_picture_is_never_delivered(tmp_path, monkeypatch):
    write_clip(tmp_path / "c.mp4")
    write_clip(tmp_path / "other.mp4", Clip(rate=Fraction(24)))

    def swap(source, target, correction, progress):
        target.write_bytes((tmp_path / "other.mp4").read_bytes())
        return ()

    monkeypatch.setattr(task, "write_corrected", swap)
    with pytest.raises(LipsyncError, match="picture would have changed") as caught:
        resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(100)))
    assert caught.value.exit_code == 1 and not (tmp_path / "c.resync.mp4").exists()


def test_refusals(tmp_path):
    write_clip(tmp_path / "c.mp4")
    write_clip(tmp_path / "mute.mp4", Clip(audio_codec=None))
    (tmp_path / "c.resync.mp4").write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists"):
        resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(40)))
    assert (tmp_path / "c.resync.mp4").read_bytes() == b"mine"
    with pytest.raises(UsageError, match="output is the input"):
        resync(
            ResyncRequest(
                input=tmp_path / "c.mp4", output=tmp_path / "c.mp4", delay_ms=Fraction(40), overwrite=True
            )
        )
    with pytest.raises(InputError, match="no sound"):
        resync(ResyncRequest(input=tmp_path / "mute.mp4", delay_ms=Fraction(40)))
    with pytest.raises(InputError, match="no sound track 4"):
        resync(ResyncRequest(input=tmp_path / "c.mp4", delay_ms=Fraction(40), tracks=(4,), overwrite=True))
    with pytest.raises(UsageError, match="no delay"):
        resync(ResyncRequest(input=tmp_path / "c.mp4", overwrite=True))


def test_drift_with_delay_is_proven(tmp_path):
    clip = Clip(audio_codec="pcm_s16le", duration=Fraction(6), beep=Fraction(5), flash=Fraction(5))
    write_clip(tmp_path / "c.mov", clip)
    result = resync(
        ResyncRequest(input=tmp_path / "c.mov", delay_ms=Fraction(20), tempo=Fraction(1001, 1000))
    )
    assert result.achieved_ms[0] == pytest.approx(20, abs=1 / 48)
    moved = measured_lead(tmp_path / "c.mov")[1] - measured_lead(tmp_path / "c.resync.mov")[1]
    assert moved == pytest.approx(5.01 / 1.001 - 5.01 + 0.02, abs=1e-4)

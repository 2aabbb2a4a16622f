"""`lipsync dub` through the public command, with an engine that paints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.media.native import read_native
from lipsync_cli.media.pixels import pixel_layout, samples
from lipsync_cli.media.probe import probe
from tests.dub_clips import EXAMPLE, ROOT, SIDE, faces, write_pictures, write_speech
from tests.dub_engine import ON_THE_GRID, PaintEngine
from tests.face_clips import write_face_clip

COUNT = 20  # pictures of a short clip


@pytest.fixture(autouse=True)
def one_thread():
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.fixture
def engine(monkeypatch) -> PaintEngine:
    """Stands in for the engine that would be loaded."""
    made = PaintEngine()
    monkeypatch.setattr("lipsync_cli.tasks.dub.load_engine", lambda name, device, options: made)
    return made


@pytest.fixture
def unmeasured(monkeypatch):
    """No measurement by the lips: a second each, and a still photo tells nothing."""
    monkeypatch.setattr("lipsync_cli.tasks.dub_sync.SyncCheck._measured", lambda self, path: None)


@pytest.fixture(scope="session")
def speech(tmp_path_factory) -> Path:
    return write_speech(tmp_path_factory.mktemp("speech") / "new.wav", COUNT / 25)


@pytest.fixture
def clip(tmp_path) -> Path:
    return write_pictures(tmp_path / "clip.mkv", [faces()] * COUNT, sounds=1)


def run(*args: object, code: int = 0) -> None:
    assert main(["dub", *map(str, args)]) == code


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def pictures(path: Path) -> list[tuple[Fraction, list[np.ndarray]]]:
    return [
        (n.time, [np.array(samples(n.picture, c)) for c in pixel_layout(n.picture.format.name).channels])
        for n in read_native(path)
    ]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---------------------------------------------------------------- what comes out


def test_the_example_gets_a_mouth_and_is_measured_before_and_after(tmp_path, engine, capsys):
    out, sheet, side = tmp_path / "out.mp4", tmp_path / "sheet.png", tmp_path / "side.mp4"
    extra = ("--contact-sheet", sheet, "--side-by-side", side, "--consent", "E. Collins, 2026-11-21")
    run(EXAMPLE, "--audio", EXAMPLE, "--out", out, "--json", "--quiet", "--preview", "1.6", *extra)
    result = told(capsys)
    assert next(iter(result)) == "schema" and result["schema"] == "lipsync.dub/1"
    assert (result["frames"], result["edited"], result["passed"]) == (40, 40, {})
    assert result["source_sync"]["audio_lead_ms"] == pytest.approx(120, abs=40)
    assert "cannot tell" in result["result_sync"]["words"]  # a painted mouth does not move
    assert [time for time, _ in pictures(out)] == [Fraction(n, 25) for n in range(40)]
    assert cv2.imread(str(sheet)).shape[1] > 300
    assert probe(side).video[0].width > 480
    record = json.loads((tmp_path / "out.mp4.lipsync.json").read_text())
    assert record["consent"] == "E. Collins, 2026-11-21" and record["model"] == "paint@0"
    assert names(tmp_path) == {"out.mp4", "out.mp4.lipsync.json", "sheet.png", "side.mp4"}


def test_sound_is_delivered_as_given(clip, speech, engine, unmeasured, capsys):
    run(clip, "--audio", speech, "--json", "--quiet")
    result = told(capsys)
    out = Path(result["output"])
    assert out.name == "clip.dub.mkv"
    with av.open(str(out)) as container:
        got = b"".join(bytes(packet) for packet in container.demux(audio=0))
        assert container.streams.audio[0].codec_context.name == "pcm_s16le"
        assert container.streams.audio[0].channels == 2
    with wave.open(str(speech)) as given:
        assert got == given.readframes(given.getnframes())


def test_the_clips_own_sound_and_a_background(clip, speech, engine, unmeasured, tmp_path):
    kept, mixed = tmp_path / "kept.mkv", tmp_path / "mixed.mkv"
    run(clip, "--audio", speech, "--keep-audio", "--out", kept, "--quiet")
    with av.open(str(kept)) as a, av.open(str(clip)) as b:
        sounds = [b"".join(bytes(packet) for packet in c.demux(audio=0)) for c in (a, b)]
    assert sounds[0] == sounds[1]
    run(clip, "--audio", speech, "--mix-background", clip, "--out", mixed, "--quiet")
    assert probe(mixed).audio[0].channels == 2


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format"),
    [(".mkv", "ffv1", "yuv422p10le"), (".mov", "prores_ks", "yuv422p10le"), (".mp4", "libx264", "yuv420p")],
)
def test_depth_times_and_count_are_the_sources(
    tmp_path, speech, engine, unmeasured, capsys, suffix, codec, pixel_format
):
    """A variable rate in all of them; FFV1 loses nothing, so that what is outside the mask can be held to the bit."""
    gaps = [Fraction(n, 90000) for n in (3000, 3750, 1500, 6000, 4500)]
    times = [sum((gaps[k % 5] for k in range(n)), Fraction(0)) for n in range(COUNT)]
    clip = write_pictures(
        tmp_path / f"clip{suffix}", [faces()] * COUNT, codec=codec, pixel_format=pixel_format, times=times
    )
    engine.spec = ON_THE_GRID
    run(clip, "--audio", speech, "--json", "--quiet")
    result = told(capsys)
    before, after = pictures(clip), pictures(Path(result["output"]))
    assert [time for time, _ in after] == [time for time, _ in before]
    assert result["video"]["pixel_format"] == pixel_format
    assert probe(Path(result["output"])).video[0].codec == probe(clip).video[0].codec
    changed = np.zeros((SIDE, SIDE), int)
    for (_, old), (_, new) in zip(before, after, strict=True):
        assert new[0].dtype == old[0].dtype
        changed += np.abs(new[0].astype(int) - old[0]) > (
            0 if codec == "ffv1" else 12 << (new[0].itemsize - 1) * 2
        )
    assert changed[110:130, 110:130].max() >= COUNT - 3  # the mouth
    assert not changed[:90].any() and not changed[:, :70].any() and not changed[:, 170:].any()


def test_two_tracks_and_their_languages_are_kept(tmp_path, speech, engine, unmeasured):
    clip = write_pictures(tmp_path / "clip.mov", [faces()] * COUNT, sounds=2)
    run(clip, "--audio", speech, "--quiet")
    out = probe(tmp_path / "clip.dub.mov")
    assert [track.channels for track in out.audio] == [2, 1]


def test_the_face_of_another_video_drives_the_mouth_and_its_sound_is_heard(
    tmp_path, engine, unmeasured, capsys
):
    clip = write_face_clip(tmp_path / "clip.mp4", seconds=1)
    driver = write_face_clip(tmp_path / "driver.mp4", seconds=1, sound=np.zeros(16_000, np.float32))
    run(clip, "--driver-video", driver, "--json", "--quiet")
    assert told(capsys)["edited"] == 25
    assert engine.seen_drive == "FaceDrive (25, 64, 64, 3)"
    assert probe(tmp_path / "clip.dub.mp4").audio[0].sample_rate_hz == 16_000
    run(clip, "--driver-video", driver, "--keep-audio", "--quiet", "--overwrite")
    assert not probe(tmp_path / "clip.dub.mp4").audio


def test_segments_get_their_own_speech_and_the_rest_is_left_alone(
    clip, speech, engine, unmeasured, tmp_path, capsys
):
    listed = tmp_path / "list.csv"
    listed.write_text(f"start,end,audio,on_length_mismatch\n0.2,0.4,{speech},cut\n0.6,0.72,{speech},cut\n")
    run(clip, "--segments", listed, "--json")
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["edited"] == 8 and result["passed"] == {"outside the segments": 12}
    assert "12 of 20 pictures keep their own mouth: outside the segments" in err
    assert [round(part["start_s"], 3) for part in result["segments"]] == [0.2, 0.6]
    assert engine.calls == ["prepare 5", "release"] * 2


@pytest.mark.parametrize(("how", "frames"), [("hold", 30), ("loop", 30), ("bounce", 30), ("cut", 20)])
def test_speech_longer_than_the_picture(clip, engine, unmeasured, tmp_path, capsys, how, frames):
    longer = write_speech(tmp_path / "longer.wav", 1.2)
    run(clip, "--audio", longer, "--on-length-mismatch", how, "--json", "--quiet")
    assert told(capsys)["frames"] == frames
    out = probe(tmp_path / "clip.dub.mkv")
    assert out.duration == pytest.approx(frames / 25, abs=0.02)
    assert len(pictures(tmp_path / "clip.dub.mkv")) == frames


def test_speech_shorter_than_the_picture(clip, engine, unmeasured, tmp_path, capsys):
    shorter = write_speech(tmp_path / "shorter.wav", 0.4)
    run(clip, "--audio", shorter, "--on-length-mismatch", "hold", "--json", "--quiet")
    assert told(capsys)["frames"] == COUNT
    run(clip, "--audio", shorter, "--on-length-mismatch", "cut", "--json", "--quiet", "--overwrite")
    assert told(capsys)["frames"] == 10


def test_a_face_lost_midway_is_told_and_passes_through(tmp_path, speech, engine, unmeasured, capsys):
    grey = np.full_like(faces(), 96)
    clip = write_pictures(tmp_path / "clip.mkv", [faces()] * 7 + [grey] * 6 + [faces()] * 7, codec="ffv1")
    run(clip, "--audio", speech, "--json")
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert 6 <= result["passed"]["no face"] <= 8 and "no face" in err
    before, after = pictures(clip), pictures(Path(result["output"]))
    assert all(np.array_equal(a, b) for a, b in zip(before[10][1], after[10][1], strict=True))


def test_a_voice_off_screen_leaves_the_picture_alone(tmp_path, speech, engine, unmeasured, capsys):
    """In a list of segments, one in which no face is seen is heard, and nothing more."""
    grey = np.full_like(faces(), 96)
    clip = write_pictures(tmp_path / "clip.mkv", [faces()] * 10 + [grey] * 10)
    listed = tmp_path / "list.csv"
    listed.write_text(f"start,end,audio,on_length_mismatch\n0,0.4,{speech},cut\n0.44,0.8,{speech},cut\n")
    run(clip, "--segments", listed, "--json", "--quiet")
    result = told(capsys)
    assert [part["faces"] for part in result["segments"]] == [[0], []]
    assert result["passed"]["no face"] >= 9
    listed.write_text(f"start,end,audio,on_length_mismatch\n0.44,0.8,{speech},cut\n")
    run(clip, "--segments", listed, "--overwrite", code=3)
    assert "no chosen face is seen between 0.4 s and 0.8 s" in capsys.readouterr().err


@pytest.mark.real
def test_a_phones_clip_of_a_variable_rate_keeps_its_times(tmp_path, engine, unmeasured):
    clip = ROOT.parent / "shared" / "clips" / "wild" / "talk4.mp4"
    if not clip.exists():
        pytest.skip("the real clips are not here")
    out = tmp_path / "out.mp4"
    engine.spec = ON_THE_GRID
    run(clip, "--audio", clip, "--out", out, "--preview", "2", "--quiet")
    times = [native.time for native in read_native(out)]
    assert times == [native.time for native in read_native(clip, end=times[-1] + Fraction(1, 1000))]
    assert 40 <= len(times) <= 46


# ---------------------------------------------------------------- whose face


@pytest.fixture
def pair(tmp_path) -> Path:
    return write_pictures(tmp_path / "pair.mkv", [faces(2)] * COUNT)


def test_two_faces_in_a_tie_are_listed_and_none_is_taken(pair, speech, engine, unmeasured, capsys):
    run(pair, "--audio", speech, code=3)
    err = capsys.readouterr().err
    assert "2 faces are seen together" in err and "face 0 around" in err and "--face" in err
    assert names(pair.parent) == {"pair.mkv"} and engine.calls == []


@pytest.mark.parametrize("choice", ["id", "point", "boxes"])
def test_one_of_two_faces_can_be_named(pair, speech, engine, unmeasured, capsys, choice, tmp_path):
    run(pair, "--audio", speech, "--dry-run", "--json", "--quiet", "--face", "0")
    right = max(told(capsys)["faces"], key=lambda face: face["x"])
    assert right["x"] > SIDE
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"boxes": [{"time": 0.4, "box": [SIDE + 70, 30, SIDE + 170, 170]}]}))
    said = {"id": right["id"], "point": f"{right['x']},{right['y']}@0.4", "boxes": boxes}[choice]
    run(pair, "--audio", speech, "--face", said, "--json", "--quiet")
    result = told(capsys)
    assert [face["id"] for face in result["faces"] if face["chosen"]] == [right["id"]]
    before, after = pictures(pair)[10][1][0].astype(int), pictures(Path(result["output"]))[10][1][0]
    assert np.abs(before - after)[100:140, :SIDE].max() < 30 < np.abs(before - after)[100:140, SIDE:].max()


def test_where_one_face_is_much_larger_it_is_meant(tmp_path, speech, engine, unmeasured, capsys):
    canvas = np.full((480, 640, 3), 96, np.uint8)
    canvas[:400, :400] = faces(side=400)
    canvas[60:180, 500:620] = faces(side=120)
    clip = write_pictures(tmp_path / "clip.mkv", [canvas] * 12)
    run(clip, "--audio", speech, "--dry-run", "--json", "--quiet", "--on-length-mismatch", "cut")
    found = told(capsys)["faces"]
    assert len(found) == 2 and [face["x"] < 400 for face in found if face["chosen"]] == [True]


# ---------------------------------------------------------------- plans and refusals


def test_a_plan_loads_no_network_and_writes_nothing(clip, speech, monkeypatch, capsys, tmp_path):
    def never(*_):
        raise AssertionError("a plan loaded an engine")

    monkeypatch.setattr("lipsync_cli.tasks.dub.load_engine", never)
    run(clip, "--audio", speech, "--dry-run")
    said = capsys.readouterr().out
    assert "would write" in said and "20 of 20 frames" in said and "flashlips-tiny" in said
    assert "GB" in said and "face 0" in said and "h264" in said
    assert names(tmp_path) == {"clip.mkv"}
    run(clip, "--audio", speech, "--dry-run", "--json", "--quiet")
    plan = told(capsys)
    assert plan["schema"] == "lipsync.dub.plan/1" and plan["estimate"]["seconds"] > 0


def silence(folder: Path, seconds: float) -> Path:
    path = folder / f"silent-{seconds}.wav"
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(bytes(2 * round(16_000 * seconds)))
    return path


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ([], 2, "nothing drives the mouth"),
        (["--audio", "{speech}", "--segments", "x.json"], 2, "--segments names the speech"),
        (["--audio", "{speech}", "--out", "{clip}"], 2, "the output is the input"),
        (["--audio", "{speech}", "--engine", "magic"], 2, "unknown engine 'magic'"),
        (["--audio", "{speech}", "--on-length-mismatch", "pray"], 2, "pray"),
        (["--audio", "{speech}", "--adapt", "much"], 2, "--adapt"),
        (["--audio", "{speech}", "--preview", "soon"], 2, "--preview"),
        (["--audio", "{speech}", "--face", "Bob"], 2, "does not name a face"),
        (["--audio", "{speech}", "--face", "7"], 3, "no face fits"),
        (["--audio", "{speech}", "--video-codec", "cinepak"], 2, "no video codec 'cinepak'"),
        (
            ["--audio", "{speech}", "--video-codec", "prores-422-hq", "--out", "{folder}/a.mp4"],
            2,
            "cannot hold",
        ),
        (["--audio", "{speech}", "--pixel-format", "rgb7"], 2, "rgb7"),
        (["--audio", "{speech}", "--keep-audio", "--mix-background", "{speech}"], 2, "exclude each other"),
        (["--audio", "{folder}/none.wav"], 3, "no such file"),
        (["--audio", "{mute}"], 3, "no sound track"),
        (["--audio", "{silent}"], 3, "no speech"),
        (["--audio", "{empty}"], 3, "audio"),
        (["--audio", "{long}"], 3, "lasts 3.00 s"),
        (["--driver-video", "{speech}"], 3, "no picture"),
        (["--driver-video", "{mute}"], 3, "no face"),
        (["--segments", "{folder}/none.json"], 3, "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    clip, speech, engine, unmeasured, capsys, tmp_path, monkeypatch, args, code, word
):
    if "magic" in args:
        monkeypatch.undo()
    sources = tmp_path / "sources"
    sources.mkdir()
    files = {
        "silent": silence(sources, COUNT / 25),
        "empty": silence(sources, 0),
        "long": write_speech(sources / "long.wav", 3),
        "mute": write_pictures(sources / "mute.mkv", [np.full_like(faces(), 96)] * COUNT),
    }
    given = [arg.format(clip=clip, speech=speech, folder=tmp_path, **files) for arg in args]
    run(clip, *given, code=code)
    assert word in capsys.readouterr().err
    assert names(tmp_path) == {"clip.mkv", "sources"} and engine.calls == []


def test_a_source_without_picture_or_face(tmp_path, speech, engine, unmeasured, capsys):
    run(speech, "--audio", speech, "--out", tmp_path / "a.mp4", code=3)
    assert "no picture" in capsys.readouterr().err
    blank = write_pictures(tmp_path / "blank.mkv", [np.full_like(faces(), 96)] * COUNT)
    run(blank, "--audio", speech, code=3)
    assert "no face was found" in capsys.readouterr().err
    assert names(tmp_path) == {"blank.mkv"}


@pytest.mark.parametrize("existing", ["clip.dub.mkv", "clip.dub.mkv.lipsync.json"])
def test_an_existing_output_is_kept(clip, speech, engine, unmeasured, capsys, existing):
    kept = clip.with_name(existing)
    kept.write_text("mine")
    run(clip, "--audio", speech, code=2)
    assert "exists" in capsys.readouterr().err and kept.read_text() == "mine"
    run(clip, "--audio", speech, "--overwrite", "--quiet")
    assert kept.stat().st_size > 100


@pytest.mark.parametrize(
    ("at", "error"),
    [("prepare", MemoryError()), ("generate", RuntimeError("DefaultCPUAllocator: can't allocate memory"))],
)
def test_running_out_of_memory_says_what_to_lower(
    clip, speech, engine, unmeasured, capsys, monkeypatch, at, error
):
    def fail(*_):
        raise error

    monkeypatch.setattr(engine, at, fail)
    run(clip, "--audio", speech, code=6)
    err = capsys.readouterr().err
    assert "memory ran out" in err and "--device cpu" in err
    assert names(clip.parent) == {"clip.mkv"}


def test_a_folder_of_somebody_elses_is_left_alone(clip, speech, engine, unmeasured, capsys):
    other = clip.with_name("clip.dub.mkv.partial")
    other.mkdir()
    (other / "novel.txt").write_text("mine")
    run(clip, "--audio", speech, code=2)
    assert "in the way" in capsys.readouterr().err and (other / "novel.txt").exists()


# ---------------------------------------------------------------- killed and resumed

PROGRAM = """
import sys, cv2
cv2.setNumThreads(1)
import lipsync_cli.dubbing.plan as plan, lipsync_cli.tasks.dub as dub
from tests.dub_clips import DyingEngine
from tests.dub_engine import ON_THE_GRID
from lipsync_cli.cli.app import main
plan.PIECE_S = 0.4
dub.load_engine = lambda *_: DyingEngine(ON_THE_GRID)
sys.exit(main(["dub", *sys.argv[1:]]))
"""
LONGER = 30  # pictures: three pieces of 0.4 s


@pytest.fixture
def longer(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A clip of three pieces, and speech of its length."""
    monkeypatch.setattr("lipsync_cli.dubbing.plan.PIECE_S", 0.4)
    clip = write_pictures(tmp_path / "clip.mkv", [faces()] * LONGER)
    return clip, write_speech(tmp_path / "new.wav", LONGER / 25)


def test_a_killed_run_goes_on_where_it_stopped_and_gives_the_same_frames(
    longer, tmp_path, engine, unmeasured, capsys
):
    clip, new = longer
    whole, killed = tmp_path / "whole.mkv", tmp_path / "killed.mkv"
    engine.spec = ON_THE_GRID
    run(clip, "--audio", new, "--out", whole, "--quiet")
    command = [sys.executable, "-c", PROGRAM, clip, "--audio", new, "--out", killed, "--quiet"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "DIES_AT": "4"}
    stopped = subprocess.run([str(c) for c in command], env=env, cwd=ROOT, timeout=120, check=False)
    assert stopped.returncode == -9 and not killed.exists()
    pieces = sorted((tmp_path / "killed.mkv.partial" / "pieces").glob("[0-9]*"))
    assert 0 < len(pieces) < 3
    capsys.readouterr()
    run(clip, "--audio", new, "--out", killed, "--json", "--quiet")
    assert told(capsys)["resumed_frames"] == 10 * len(pieces)
    for (time, one), (other_time, other) in zip(pictures(whole), pictures(killed), strict=True):
        assert time == other_time
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not (tmp_path / "killed.mkv.partial").exists()


def test_pieces_of_another_job_are_not_taken_over(longer, engine, unmeasured, monkeypatch, capsys):
    clip, new = longer
    generate, windows = engine.generate, []

    def failing(crops):
        windows.append(crops)
        if len(windows) == 3:
            raise ZeroDivisionError("a bug")
        return generate(crops)

    monkeypatch.setattr(engine, "generate", failing)
    run(clip, "--audio", new, "--quiet", code=1)
    assert list(clip.with_name("clip.dub.mkv.partial").glob("pieces/0*"))
    engine.release()
    capsys.readouterr()
    run(clip, "--audio", new, "--seed", "5", "--json", "--quiet")
    assert told(capsys)["resumed_frames"] == 0


def test_a_preview_looks_no_further_than_it_goes(longer, engine, unmeasured, capsys):
    clip, new = longer
    run(clip, "--audio", new, "--preview", "0.4", "--json")
    out, _ = capsys.readouterr()
    result = json.loads(out)
    assert (result["frames"], result["edited"]) == (10, 10)
    assert result["segments"][0]["end_s"] == pytest.approx(0.4)
    assert probe(clip.with_name("clip.dub.mkv")).duration == pytest.approx(0.4, abs=0.05)
    assert len(result["faces"]) == 1 and result["faces"][0]["end_s"] < 0.41

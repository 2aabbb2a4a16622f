"""Footage to training data, on a film made of one photo."""

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from lipsync_cli.audio.load import Waveform
from lipsync_cli.cli.app import main
from lipsync_cli.core.errors import InputError
from lipsync_cli.data.clips import load_clip
from lipsync_cli.data.manifest import Clip, read_manifest
from lipsync_cli.data.prepare import PrepareConfig, _fault, _runs, slice_sound
from lipsync_cli.faces.align import STABLE_INDICES
from lipsync_cli.faces.follow import FollowConfig, follow_faces
from lipsync_cli.media.frames import sample_frames
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.prepare import PrepareRequest, Said, find_videos, read_text, with_text

PHOTO = Path(__file__).parents[2] / "data" / "astronaut.jpg"
FRAMES = 54


def write_film(path: Path, *, face: bool = True, frames: int = FRAMES) -> None:
    """The photo drifting over grey, with a 440 Hz tone."""
    photo = cv2.cvtColor(cv2.imread(str(PHOTO)), cv2.COLOR_BGR2RGB)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 320, 304, "yuv420p"
        audio = out.add_stream("aac", rate=48_000, layout="mono")
        for n in range(frames):
            image = np.full((304, 320, 3), 96, np.uint8)
            if face:
                x = 8 + n // 4
                image[8:296, x : x + 288] = photo
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(video.encode(None))
        tone = (0.3 * np.sin(2 * np.pi * 440 / 48_000 * np.arange(frames * 1920))).astype(np.float32)
        for start in range(0, len(tone), 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = 48_000, start
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))


@pytest.fixture(scope="module")
def footage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("footage")
    write_film(folder / "anna" / "one.mp4")
    (folder / "anna" / "broken.mp4").write_bytes(b"not a film" * 100)
    write_film(folder / "bert" / "empty.mp4", face=False, frames=30)
    write_film(folder / "bert" / "short.mp4", frames=30)
    write_film(folder / "bert" / "two.mkv")
    text = {
        "clip": "anna/one.mp4",
        "text": "hello there",
        "words": [["hello", 0.2, 0.6], ["there", 0.7, 1.0]],
    }
    (folder / "words.jsonl").write_text(json.dumps(text) + "\n")
    return folder


@pytest.fixture(scope="module")
def prepared(footage, tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared") / "faces"
    assert main(["prepare", str(footage), str(out), "--text", str(footage / "words.jsonl"), "-q"]) == 0
    return out


def test_manifest_says_what_there_is(footage, prepared):
    one, two = read_manifest(prepared)
    assert (one.key, one.subject, two.key, two.subject) == ("anna/one", "anna", "bert/two", "bert")
    assert one.source == str(footage / "anna" / "one.mp4")
    assert one.num_frames == pytest.approx(FRAMES, abs=1) and one.start_s == 0.0
    assert one.text == "hello there" and one.words == (("hello", 0.2, 0.6), ("there", 0.7, 1.0))
    assert two.text == "" and two.words == ()
    data = load_clip(prepared, one, grey=False)
    assert data.frames.shape == (one.num_frames, 144, 144, 3)
    spectrum = np.abs(np.fft.rfft(data.samples[:32_000]))
    assert spectrum.argmax() * 16_000 / 32_000 == pytest.approx(440, abs=1)


def test_report_says_why(footage, prepared):
    report = json.loads((prepared / "report.json").read_text())
    assert report["files"] == 5 and report["clips"] == 2
    why = {Path(source).name: " ".join(reasons) for source, reasons in report["dropped"].items()}
    assert set(why) == {"broken.mp4", "empty.mp4", "short.mp4"}
    assert (
        "no face" in why["empty.mp4"]
        and "too short" in why["short.mp4"]
        and "broken.mp4" in why["broken.mp4"]
    )


def test_prepared_crops_are_the_aligned_crops(footage, prepared):
    frames = sample_frames(footage / "anna" / "one.mp4", rate=Fraction(25), long_side_px=960)
    follow = FollowConfig(geometry=PrepareConfig().geometry, mesh_every=1)
    crops = [c.image for c in follow_faces(frames, lambda _: False, face_models(), follow)]
    data = load_clip(prepared, read_manifest(prepared)[0], grey=True)
    luma = np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in crops]).astype(float)
    assert len(luma) == len(data.frames)
    error = np.square(luma - data.frames[..., 0]).mean()
    assert 10 * np.log10(255**2 / error) > 38


def test_landmarks_are_kept_in_crop_pixels(prepared):
    clip = read_manifest(prepared)[0]
    data = load_clip(prepared, clip, grey=True)
    assert data.landmarks is not None and data.landmarks.shape == (clip.num_frames, 478, 2)
    template = PrepareConfig().geometry.template()
    assert (
        np.abs(data.landmarks[:, STABLE_INDICES].mean(0) - template).max() < 6
    )  # the photo is of one face, not the mean


def stamps(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted((out / "clips").rglob("*.*"))}


def test_a_second_run_does_nothing_again(footage, prepared):
    before, manifest = stamps(prepared), (prepared / "manifest.jsonl").read_text()
    assert len(before) == 6
    assert main(["prepare", str(footage), str(prepared), "--text", str(footage / "words.jsonl"), "-q"]) == 0
    assert stamps(prepared) == before
    assert (prepared / "manifest.jsonl").read_text() == manifest
    assert not [path for path in prepared.rglob("*") if ".part" in path.name]


def test_an_unfinished_file_is_done_again(footage, prepared):
    before = stamps(prepared)
    (prepared / "done" / "anna" / "one.json").unlink()
    assert main(["prepare", str(footage), str(prepared), "--text", str(footage / "words.jsonl"), "-q"]) == 0
    after = stamps(prepared)
    assert {path.name for path in after if after[path] != before[path]} == {
        "one.mp4",
        "one.flac",
        "one.landmarks.npy",
    }


def test_two_workers_give_what_one_gives(footage, prepared, tmp_path):
    out = tmp_path / "faces"
    words = ["--text", str(footage / "words.jsonl")]
    assert main(["prepare", str(footage), str(out), *words, "--workers", "2", "-q"]) == 0
    assert (out / "manifest.jsonl").read_bytes() == (prepared / "manifest.jsonl").read_bytes()
    assert (out / "report.json").read_bytes() == (prepared / "report.json").read_bytes()
    for path in stamps(prepared):
        assert (out / path.relative_to(prepared)).read_bytes() == path.read_bytes()


def test_larger_crops(footage, tmp_path, capsys):
    out = tmp_path / "faces"
    assert main(["prepare", str(footage / "anna" / "one.mp4"), str(out), "--face-px", "256", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 1
    (clip,) = read_manifest(out)
    assert clip.key == "clips/one" and load_clip(out, clip, grey=True).frames.shape[1:3] == (288, 288)


def test_nothing_usable_is_an_input_error(footage, tmp_path, capsys):
    assert main(["prepare", str(footage / "bert" / "empty.mp4"), str(tmp_path / "faces")]) == 3
    assert "no usable face" in capsys.readouterr().err
    assert json.loads((tmp_path / "faces" / "report.json").read_text())["clips"] == 0
    (tmp_path / "void").mkdir()
    assert main(["prepare", str(tmp_path / "void"), str(tmp_path / "faces")]) == 3


def test_videos_have_keys_of_their_own(tmp_path):
    names = ("a.mp4", "x/a.mp4", "x/a.MOV", "x-y/b.mp4", "x/y/b.mp4", "x/y/b.mkv", "x-y/b.mkv", "x/notes.txt")
    for name in (*names, "out/clips/x/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos(tmp_path, leave_out=tmp_path / "out")
    assert sorted(str(path.relative_to(tmp_path)) for path in found.values()) == sorted(names[:-1])
    assert found["clips/a"] == tmp_path / "a.mp4"
    assert {key.split("/")[0] for key in found} == {"clips", "x", "x-y"}


def test_words_go_to_the_piece_that_says_them(tmp_path):
    source = tmp_path / "a.mp4"
    said = {
        source.resolve(): Said("one two three", (("one", 0.5, 0.9), ("two", 1.8, 2.4), ("three", 3.0, 3.4)))
    }

    def piece(start_s: float, num_frames: int) -> Clip:
        clip = Clip("a/a", "a", "p", "s", num_frames, str(source), start_s)
        return with_text(clip, said)

    assert piece(0.0, 100).text == "one two three"
    first, second = piece(0.0, 50), piece(2.0, 50)
    assert (first.text, second.text) == ("one", "two three")
    assert second.words[1] == ("three", pytest.approx(1.0), pytest.approx(1.4))
    assert with_text(Clip("b/b", "b", "p", "s", 9, "other.mp4", 0.0), said).text == ""


@pytest.mark.parametrize(
    "line", ["{", "3", '{"text": "a"}', '{"clip": "a.mp4", "text": "a", "words": [["a", 1]]}']
)
def test_a_line_of_text_that_is_none_is_named_before_the_work(tmp_path, line):
    (tmp_path / "t.jsonl").write_text('{"clip": "a.mp4", "text": "fine"}\n' + line)
    with pytest.raises(InputError, match="line 2") as caught:
        read_text(PrepareRequest(tmp_path, tmp_path / "out", tmp_path / "t.jsonl"))
    assert caught.value.exit_code == 3
    with pytest.raises(InputError, match=r"none\.jsonl"):
        read_text(PrepareRequest(tmp_path, tmp_path / "out", tmp_path / "none.jsonl"))


@pytest.mark.parametrize(
    "start", [Fraction(-1, 100), Fraction(0), Fraction(1, 25), Fraction(9, 100), Fraction(1), Fraction(-1)]
)
@pytest.mark.parametrize("begins", [Fraction(0), Fraction(1, 50), Fraction(-3, 100)])
def test_sound_is_cut_where_it_lies_in_time(start, begins):
    sound = Waveform(np.arange(1, 101, dtype=np.float32), 1000, begins)
    found = slice_sound(sound, start, 60)
    for n in range(60):
        index = (start + Fraction(n, 1000) - begins) * 1000
        assert found[n] == (sound.samples[int(index)] if 0 <= index < 100 else 0.0)


def crop(track: int, frame: int, yaw: float = 0.0):
    return SimpleNamespace(track_id=track, time=Fraction(frame, 25), yaw_deg=yaw)


def spans(crops, **values) -> list[tuple[int, int, int]]:
    runs = _runs(iter(crops), PrepareConfig(**values))
    return sorted((run[0].track_id, int(run[0].time * 25), len(run)) for run in runs)


def test_runs_end_at_gaps_and_at_the_longest_length():
    assert spans(crop(1, n) for n in [0, 1, 2, 5, 6, 8]) == [(1, 0, 3), (1, 5, 2), (1, 8, 1)]
    assert spans((crop(1, n) for n in range(120)), max_s=2.0) == [(1, 0, 50), (1, 50, 50), (1, 100, 20)]


def test_two_faces_run_side_by_side():
    both = [crop(track, n) for n in range(60) for track in (1, 2) if track == 1 or 10 <= n < 30 or n >= 40]
    assert spans(both, max_s=2.0) == [(1, 0, 50), (1, 50, 10), (2, 10, 20), (2, 40, 20)]


def test_a_run_is_given_as_soon_as_it_ends():
    """An hour of footage must not stay in memory."""
    taken = 0

    def film():
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield crop(n // 100, n)

    next(_runs(film(), PrepareConfig()))
    assert taken <= 102


def test_faults():
    config = PrepareConfig(min_s=2.0, max_yaw_deg=50.0)
    assert "1.96 s is too short" in _fault([crop(1, n) for n in range(49)], config)
    assert _fault([crop(1, n) for n in range(50)], config) == ""
    turned = [crop(1, n, -60.0 if n < 26 else 5.0) for n in range(50)]
    assert "turned by 60 degrees" in _fault(turned, config)
    assert _fault([crop(1, n, -60.0 if n < 24 else 5.0) for n in range(50)], config) == ""

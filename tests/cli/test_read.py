"""`lipsync read` as a user meets it: answers, formats, batches, and what it says of unusable input."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.core.shipped import shipped_folder
from tests.face_clips import write_face_clip
from tests.language_models import write_random_language_model
from tests.read_clips import write_published_reader, write_random_reader, write_speaking_clip

GRID = Path(__file__).resolve().parents[3] / "shared/clips/grid"
SHIPPED = shipped_folder("models") / "vsr-grid-tiny"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder whose weights are random: everything but the answer can be seen with it."""
    return str(write_random_reader(tmp_path_factory.mktemp("model") / "random"))


@pytest.fixture(scope="module")
def speaking(tmp_path_factory):
    return write_speaking_clip(tmp_path_factory.mktemp("clips") / "speaking.mp4")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return write_face_clip(tmp_path_factory.mktemp("clips") / "still.mp4", seconds=1)


def read(*arguments) -> int:
    return main(["read", "--device", "cpu", "--quiet", *map(str, arguments)])


# ---------------------------------------------------------------- one clip


def test_text_goes_to_stdout_alone(model, speaking, capsys):
    assert read(speaking, "--model", model, "--grammar", "grid") == 0
    out, err = capsys.readouterr()
    assert len(out.split()) == 6 and out.split()[0] in ("bin", "lay", "place", "set")
    assert err == ""


def test_json_has_words_with_times_and_confidences(model, speaking, capsys):
    assert read(speaking, "--model", model, "--grammar", "grid", "--json", "--best", "3") == 0
    (line,) = capsys.readouterr().out.splitlines()
    record = json.loads(line)
    assert next(iter(record)) == "schema" and record["schema"] == "lipsync.read/1"
    assert (record["status"], record["exit_code"]) == ("ok", 0)
    (speaker,) = record["speakers"]
    assert speaker["text"] == record["text"] == " ".join(word["text"] for word in speaker["words"])
    ends = [0.0]
    for word in speaker["words"]:
        assert ends[-1] <= word["start_s"] < word["end_s"] <= record["duration_s"] + 0.04
        assert 0 <= word["confidence"] <= 1
        ends.append(word["end_s"])
    (reading,) = speaker["readings"]
    scores = [sentence["score"] for sentence in reading["best"]]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)
    assert len({sentence["text"] for sentence in reading["best"]}) == 3


def test_formats_agree(model, speaking, capsys):
    said = {}
    for name in ("text", "srt", "vtt", "csv"):
        assert read(speaking, "--model", model, "--grammar", "grid", "--format", name) == 0
        said[name] = capsys.readouterr().out
    assert said["srt"].startswith("1\n00:00:0") and said["vtt"].startswith("WEBVTT\n\n00:00:0")
    rows = list(csv.DictReader(io.StringIO(said["csv"])))
    assert " ".join(row["word"] for row in rows) == said["text"].strip()
    assert rows[0]["clip"] == str(speaking)


def test_several_faces_are_several_speakers(model, tmp_path, capsys):
    clip = write_speaking_clip(tmp_path / "two.mp4", faces=2)
    assert read(clip, "--model", model, "--grammar", "grid", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["speakers"]) == 2
    assert len({speaker["face"] for speaker in record["speakers"]}) == 2
    assert read(clip, "--model", model, "--grammar", "grid") == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["face 0", "face 1"]


def test_word_list_and_greedy(model, speaking, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("red\nNow\n")
    assert read(speaking, "--model", model, "--grammar", tmp_path / "words.txt") == 0
    assert set(capsys.readouterr().out.split()) <= {"red", "now"}
    assert read(speaking, "--model", model, "--beam", "0", "--json") in (0, 4)
    json.loads(capsys.readouterr().out)


def test_published_files_are_read_with_end_to_end(speaking, tmp_path, capsys):
    folder = write_published_reader(tmp_path / "published")
    (tmp_path / "words.txt").write_text("red\nnow\n")
    assert (
        read(speaking, "--model", folder, "--grammar", tmp_path / "words.txt", "--beam", "3", "--json") == 0
    )
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "ok" and set(record["text"].split()) <= {"RED", "NOW"}


def test_language_model_of_transformers(model, speaking, tmp_path, capsys):
    language = write_random_language_model(tmp_path / "language")
    options = [speaking, "--model", model, "--grammar", "grid", "--json"]
    assert read(*options) == 0
    plain = json.loads(capsys.readouterr().out)
    assert read(*options, "--language", language, "--language-weight", "50") == 0
    leaning = json.loads(capsys.readouterr().out)
    assert len(leaning["text"].split()) == 6 and leaning["text"] != plain["text"]


def test_long_clip_is_read_in_pieces_that_overlap(model, tmp_path, capsys):
    clip = write_speaking_clip(tmp_path / "long.mp4", seconds=5)
    assert read(clip, "--model", model, "--grammar", "grid", "--json") == 0
    (speaker,) = json.loads(capsys.readouterr().out)["speakers"]
    pieces = speaker["readings"]
    assert len(pieces) >= 2 and max(piece["end_s"] - piece["start_s"] for piece in pieces) <= 3
    assert any(piece["overlap_s"] > 0 for piece in pieces[1:])
    middles = [(word["start_s"] + word["end_s"]) / 2 for word in speaker["words"]]
    assert middles == sorted(middles)


def test_clip_of_exactly_the_longest_piece_is_one_piece(model, tmp_path, capsys):
    clip = write_speaking_clip(tmp_path / "three.mp4", seconds=3)
    assert read(clip, "--model", model, "--grammar", "grid", "--json") == 0
    (speaker,) = json.loads(capsys.readouterr().out)["speakers"]
    assert [(piece["start_s"], piece["end_s"]) for piece in speaker["readings"]] == [(0.0, 3.0)]


def test_dry_run_loads_nothing(speaking, capsys):
    assert read(speaking, "--model", "./nowhere", "--dry-run") == 0
    assert str(speaking) in capsys.readouterr().out


# ---------------------------------------------------------------- what cannot be read


def missing(path):
    pass


def empty(path):
    path.write_bytes(b"")


def no_face(path):
    write_face_clip(path, seconds=1, face=False)


def two_frames(path):
    write_face_clip(path, seconds=0.08)


def not_moving(path):
    write_face_clip(path, seconds=1)


@pytest.mark.parametrize(
    "make, code, status, word",
    [
        (missing, 3, "error", "no such"),
        (empty, 3, "error", "empty"),
        (no_face, 3, "no_face", "no face"),
        (two_frames, 4, "no_motion", "only 2 frames"),
        (not_moving, 4, "no_motion", "no mouth moves"),
    ],
)
def test_unusable_clips(model, tmp_path, capsys, make, code, status, word):
    clip = tmp_path / "clip.mp4"
    make(clip)
    assert read(clip, "--model", model, "--json") == code
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert (record["status"], record["exit_code"]) == (status, code)
    assert word in record["message"] and str(clip) in record["message"]
    assert err.startswith("error: ") and "\nhint: " in err


@pytest.mark.parametrize(
    "arguments, code, word",
    [
        (["--format", "doc"], 2, "no format 'doc'"),
        (["--shard", "3/2"], 2, "no shard"),
        (["--resume"], 2, "--resume needs the folder"),
        (["--grammar", "nowhere.txt"], 3, "word list cannot be read"),
        (["--language", "nowhere.txt"], 3, "list of sentences cannot be read"),
        (["--reference", "nowhere.jsonl"], 3, "references cannot be read"),
        (["--model", "no-such-model"], 5, "no-such-model"),
        (["--model", "lrs3-vsr"], 5, "lipsync models pull lrs3-vsr"),
        (["--model", "./nowhere"], 5, "a model is a folder with config.json"),
        (["--language", "hf:nobody/nothing@" + 40 * "0"], 5, "hf download nobody/nothing"),
        (["--model", "face-mediapipe"], 5, "one of 'vsr' is needed"),
        (["--device", "cuda:99"], 6, "not present"),
    ],
)
def test_unusable_options(model, speaking, capsys, arguments, code, word):
    assert main(["read", "--quiet", "--model", model, str(speaking), *arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and word in err


def test_empty_manifest_and_malformed_reference(model, speaking, tmp_path, capsys):
    (tmp_path / "clips.txt").write_text("")
    assert read(tmp_path / "clips.txt", "--model", model) == 3
    assert "names no clip" in capsys.readouterr().err
    (tmp_path / "refs.jsonl").write_text('{"clip": "a.mp4"}\n')
    assert read(speaking, "--model", model, "--reference", tmp_path / "refs.jsonl") == 3
    assert "line 1 is not a reference" in capsys.readouterr().err


# ---------------------------------------------------------------- batches


def links(folder: Path, **clips: Path) -> list[Path]:
    folder.mkdir()
    for name, clip in clips.items():
        (folder / f"{name}.mp4").symlink_to(clip)
    return sorted(folder.iterdir())


def records(folder: Path) -> dict[str, dict]:
    return {p.name.removesuffix(".read.json"): json.loads(p.read_text()) for p in folder.glob("*.read.json")}


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_goes_on_past_a_bad_clip(model, speaking, still, tmp_path, capsys, workers):
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"This is no video.")
    links(tmp_path / "clips", a=speaking, b=broken, c=still, d=speaking)
    out = tmp_path / "out"
    refs = tmp_path / "refs.jsonl"
    refs.write_text(
        "".join(json.dumps({"clip": f"{n}.mp4", "text": "bin blue at f two now"}) + "\n" for n in "abd")
    )
    options = ["--model", model, "--grammar", "grid", "--out", out, "--format", "srt", "--workers", workers]
    code = read(tmp_path / "clips", *options, "--reference", refs)
    printed, err = capsys.readouterr()
    assert code in (3, 4)  # of the first that failed; with workers that may be the one or the other
    found = records(out)
    assert {name: record["status"] for name, record in found.items()} == {
        "a": "ok",
        "b": "error",
        "c": "no_motion",
        "d": "ok",
    }
    assert found["a"]["text"] == found["d"]["text"]
    assert (out / "a.read.srt").read_text().startswith("1\n00:00:")
    assert err.count("error: ") == 2 and "b.mp4" in err and "c.mp4" in err
    assert "3 clips, 18 words" in printed and "1 clips could not be read" in printed


def test_records_are_neither_overwritten_nor_doubled(model, still, tmp_path, capsys):
    clips, out = links(tmp_path / "clips", a=still, b=still), tmp_path / "out"
    assert read(clips[0], "--model", model, "--out", out) == 4
    first = (out / "a.read.json").stat().st_mtime_ns
    assert read(*clips, "--model", model, "--out", out) == 2
    assert "the record exists" in capsys.readouterr().err
    assert read(*clips, "--model", model, "--out", out, "--resume") == 4
    assert sorted(records(out)) == ["a", "b"]
    assert (out / "a.read.json").stat().st_mtime_ns == first
    # other options, another answer: what is there is no longer good
    assert read(*clips, "--model", model, "--out", out, "--resume", "--beam", "3") == 4
    assert (out / "a.read.json").stat().st_mtime_ns != first


def test_shards_together_read_everything_once(model, still, tmp_path):
    links(tmp_path / "clips", **{name: still for name in "abcde"})
    for part in (1, 2):
        out = tmp_path / f"out{part}"
        assert read(tmp_path / "clips", "--model", model, "--shard", f"{part}/2", "--out", out) == 4
    assert sorted([*records(tmp_path / "out1"), *records(tmp_path / "out2")]) == list("abcde")
    assert sorted(records(tmp_path / "out2")) == ["b", "d"]


def children(pid: int) -> list[int]:
    return [int(n) for path in Path(f"/proc/{pid}/task").glob("*/children") for n in path.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
def test_killed_batch_goes_on_where_it_was(model, still, tmp_path):
    names = [f"{number:02d}" for number in range(20)]
    links(tmp_path / "clips", **{name: still for name in names})
    out = tmp_path / "out"
    command = ["read", "--device", "cpu", "--quiet", str(tmp_path / "clips"), "--model", model]
    command += ["--out", str(out), "--workers", "2"]
    run = subprocess.Popen([sys.executable, "-m", "lipsync_cli", *command], stderr=subprocess.DEVNULL)
    helpers: list[int] = []
    try:
        deadline = time.monotonic() + 60
        while len(list(out.glob("*.read.json"))) < 3:
            assert run.poll() is None, "the batch ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        helpers = children(run.pid)
    finally:
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert len(helpers) >= 2
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.read.json")}
    assert 3 <= len(before) < len(names)
    assert all(record["status"] == "no_motion" for record in records(out).values())  # whole ones only
    assert main([*command, "--resume"]) == 4
    assert sorted(records(out)) == names
    assert all((out / name).stat().st_mtime_ns == time_ns for name, time_ns in before.items())
    assert not [pid for pid in helpers if children(pid) or _runs(pid)]  # nobody is left behind


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ---------------------------------------------------------------- the shipped model


@pytest.mark.real
def test_shipped_model_reads_grid(tmp_path, capsys):
    if not GRID.is_dir() or not SHIPPED.is_dir():
        pytest.skip("the GRID clips or the model are absent")
    clips = sorted((GRID / "s1").glob("*.mp4"))[-50::10]  # five of the fifty never trained on
    rows = [json.loads(line) for line in (GRID / "words.jsonl").read_text().splitlines()]
    (tmp_path / "refs.jsonl").write_text(
        "".join(json.dumps({"clip": row["clip"], "text": row["text"]}) + "\n" for row in rows)
    )
    refs = ["--reference", tmp_path / "refs.jsonl", "--json"]
    assert read(*clips, *refs, "--grammar", "grid") == 0
    *found, rates = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rates["schema"] == "lipsync.read.score/1" and rates["words"] == 30
    assert rates["wer"] <= 0.2
    said = {row["clip"]: row["words"] for row in rows}
    errors_s = [
        abs(word["start_s"] - start_s)
        for record in found
        for word, (text, start_s, _) in zip(
            record["speakers"][0]["words"], said["/".join(Path(record["clip"]).parts[-2:])], strict=True
        )
        if word["text"] == text
    ]
    assert sorted(errors_s)[len(errors_s) // 2] <= 0.08

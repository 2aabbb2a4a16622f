"""`lipsync offset` as a user meets it: answers, files, batches, and what it says of unusable input."""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest

from lipsync_cli.cli.app import main
from lipsync_cli.core.shipped import shipped_folder
from tests.face_clips import noise, write_face_clip, write_random_model

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/talking_photo.mp4"
SHIPPED = shipped_folder("models") / "synclipmae-tiny"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder whose weights are random: everything but the answer can be seen with it."""
    return str(write_random_model(tmp_path_factory.mktemp("model") / "random"))


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    """A clip with a face that does not move and a sound that is no speech."""
    return write_face_clip(tmp_path_factory.mktemp("clip") / "face.mp4", sound=noise(3))


def objects(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# ---------------------------------------------------------------- what cannot be measured


def empty(path):
    path.write_bytes(b"")


def missing(path):
    pass


def text(path):
    path.write_text("This is no video.\n" * 50)


def truncated(path):
    write_face_clip(path, sound=noise(3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def no_sound(path):
    write_face_clip(path)


def no_picture(path):
    write_face_clip(path, picture=False, sound=noise(3))


def no_face(path):
    write_face_clip(path, face=False, sound=noise(3))


def silence(path):
    write_face_clip(path, sound=noise(3, level=0))


def one_frame(path):
    write_face_clip(path, seconds=0.04, sound=noise(3))


def a_third_of_a_second(path):
    write_face_clip(path, seconds=0.3, sound=noise(0.3))


def still_mouth(path):
    write_face_clip(path, sound=noise(3))


def eight_k(path):
    write_face_clip(path, size=(7680, 4320), rate=Fraction(1), sound=noise(3), codec="mjpeg")


def eight_k_upright(path):
    write_face_clip(path, size=(4320, 7680), rate=Fraction(1), sound=noise(3), codec="mjpeg")


def odd_size(path):
    write_face_clip(path, size=(321, 243), sound=noise(3))


@pytest.mark.parametrize(
    ("make", "code", "word"),
    [
        (missing, 3, "no such file"),
        (empty, 3, "empty"),
        (truncated, 3, "cut short"),
        (text, 3, "not a media file"),
        (no_sound, 3, "no sound track"),
        (no_picture, 3, "no picture"),
        (no_face, 3, "no face"),
        (silence, 4, "silent"),
        (one_frame, 4, "only 0.0 s of face and sound"),
        (a_third_of_a_second, 4, "only 0.3 s of face and sound"),
        (still_mouth, 4, "the mouth hardly moves"),
        (eight_k, 4, "the mouth hardly moves"),
        (eight_k_upright, 4, "the mouth hardly moves"),
        (odd_size, 4, "the mouth hardly moves"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_cannot_be_measured_says_why(make, code, word, tmp_path, model, capsys):
    clip = tmp_path / "clip.mp4"
    make(clip)
    before = clip.read_bytes() if clip.exists() else None
    assert main(["offset", str(clip), "--model", model]) == code
    out, err = capsys.readouterr()
    if code == 3:
        assert out == "" and err.splitlines()[-2].startswith(f"error: {clip}: ")
        assert word in err and "hint: " in err
    else:
        assert out.startswith("cannot tell: ") and word in out
        assert "error" not in err
    assert (clip.read_bytes() if clip.exists() else None) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"clip.mp4"}


def test_a_folder_without_videos(tmp_path, model, capsys):
    (tmp_path / "notes.txt").write_text("x")
    assert main(["offset", str(tmp_path), "--model", model]) == 3
    assert "no video in this folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read(tmp_path, model, capsys):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    if os.access(closed, os.R_OK):
        pytest.skip("whoever runs this reads every folder (root does, unless it gave up CAP_DAC_OVERRIDE)")
    assert main(["offset", str(closed), "--model", model]) == 3
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (["--standard", "ebu-r73"], 2, "did you mean 'ebu-r37'"),
        (["--standard", "custom"], 2, "needs both limits"),
        (["--early-ms", "5"], 2, "belong to --standard custom"),
        (["--resume"], 2, "--resume needs"),
        (["--csv", "-", "--json"], 2, "both want stdout"),
        (["--plot", "lag.bmp"], 2, ".png or .svg"),
        (["--max-offset", "9"], 2, "max-offset"),
        (["--out", "no/such/folder/x.jsonl"], 2, "the folder does not exist"),
        (["--device", "abacus"], 2, "unknown device"),
        (["--model", "synclipmae-tony"], 5, "synclipmae-tony"),
        (["--audio-track", "1"], 3, "no sound track 1"),
        (["--face", "7"], 3, "there is no face 7; there are 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_mean_nothing(words, code, word, face, model, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = words if "--model" in words else [*words, "--model", model]
    assert main(["offset", str(face), *words]) == code
    out, err = capsys.readouterr()
    assert out == "" and word in err
    assert list(tmp_path.iterdir()) == []


def test_an_absent_device_is_never_replaced(face, model, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["offset", str(face), "--model", model, "--device", "cuda"]) == 6
    out, err = capsys.readouterr()
    assert out == "" and "'cuda' is not present" in err


def test_a_flipped_byte_of_the_weights(face, model, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    clips = [str(face), str(tmp_path / "gone.mp4")]
    for extra in ([], ["--workers", "1"]):
        page = tmp_path / "report.html"
        assert main(["offset", *clips, "--model", str(copy), "--json", "--report", str(page), *extra]) == 5
        out, err = capsys.readouterr()
        assert out == "" and not page.exists()
        assert err.count("error: ") == 1 and "model.safetensors" in err and "checksum" in err.lower()


def test_outputs_are_neither_inputs_nor_replaced(face, model, tmp_path, capsys):
    clip = shutil.copy(face, tmp_path / "clip.mp4")
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    assert main(["offset", str(clip), "--model", model, "--csv", str(taken)]) == 2
    assert "the output exists" in capsys.readouterr().err and taken.read_text() == "mine"
    assert main(["offset", str(clip), "--model", model, "--report", str(clip), "--overwrite"]) == 2
    assert "the output is the input" in capsys.readouterr().err
    assert Path(clip).read_bytes() == face.read_bytes()
    assert main(["offset", str(clip), "--model", model, "--csv", str(taken), "--overwrite"]) == 4
    assert taken.read_text().startswith("input,face,")


# ---------------------------------------------------------------- forms of the answer


def test_json_is_one_object_per_clip_and_nothing_else(face, model, tmp_path, capsys):
    gone = str(tmp_path / "gone.mp4")
    assert main(["offset", gone, str(face), "--model", model, "--json", "--standard", "netflix"]) == 3
    bad, good = objects(capsys.readouterr().out)
    assert [next(iter(record)) for record in (bad, good)] == ["schema", "schema"]
    assert bad["input"] == gone and bad["status"] == "error" and bad["exit_code"] == 3
    assert good["schema"] == "lipsync.offset/1" and good["input"] == str(face)
    assert good["status"] == "inconclusive" and good["exit_code"] == 4
    wanted = "audio_lead_ms interval_ms suggested_audio_delay_ms confidence reasons verdict faces curve programme model"
    assert set(wanted.split()) <= good.keys()
    assert good["audio_lead_ms"] is None and good["suggested_audio_delay_ms"] is None
    assert "still-mouth" in [reason["code"] for reason in good["reasons"]]
    assert good["verdict"]["outcome"] == "INDETERMINATE" and good["verdict"]["early_ms"] == 40
    assert len(good["curve"]["lead_ms"]) == len(good["curve"]["similarity"]) == 121
    (only,) = good["faces"]
    assert only["face"] == 0 and "portrait" not in only and only["end_s"] == pytest.approx(3, abs=0.1)


def test_csv_has_a_row_for_the_clip_and_one_for_its_face(face, model, tmp_path, capsys):
    gone = str(tmp_path / "gone.mp4")
    assert main(["offset", str(face), gone, "--model", model, "--csv", "-"]) == 4
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["input"], row["face"], row["status"]) for row in rows] == [
        (str(face), "", "inconclusive"),
        (str(face), "0", ""),
        (gone, "", "error"),
    ]
    assert "still-mouth" in rows[0]["reasons"].split()
    assert "no such file" in rows[2]["words"] and rows[2]["exit_code"] == "3"


def test_the_plot_is_a_picture(face, model, tmp_path, capsys):
    plot = tmp_path / "lag.png"
    assert main(["offset", str(face), "--model", model, "--plot", str(plot)]) == 4
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (
        main(["offset", str(face), str(tmp_path), "--model", model, "--plot", str(tmp_path / "b.png")]) == 2
    )
    assert "one clip, not 2" in capsys.readouterr().err


def test_the_report_needs_nothing_but_itself(face, model, tmp_path):
    odd = tmp_path / "<b>a & b.mp4"
    shutil.copy(face, odd)
    page = tmp_path / "report.html"
    assert (
        main(["offset", str(odd), str(tmp_path / "gone.mp4"), "--model", model, "--report", str(page)]) == 4
    )
    html = page.read_text("utf-8")
    assert not re.search(r"https?://|//\w|<script|<link|url\(", re.sub(r'"data:[^"]+"', '""', html))
    assert "&lt;b&gt;a &amp; b.mp4" in html and "<b>a" not in html
    assert html.count('src="data:image/jpeg;base64,') == 1 and 'src="data:image/svg+xml;base64,' in html
    assert "CANNOT TELL" in html and "UNUSABLE" in html and "no such file" in html


def test_verbose_shows_the_faces_and_quiet_only_the_answer(face, model, capsys):
    assert main(["offset", str(face), "--model", model, "--verbose"]) == 4
    out, err = capsys.readouterr()
    assert "reasons to doubt" in out and "00:00:00:00 – 00:00:03:00" in out
    assert err == "device: cpu\n" or "device: " in err
    assert main(["offset", str(face), "--model", model, "--quiet"]) == 4
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""


def test_dry_run_loads_no_network_and_writes_nothing(face, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "lipsync_cli.tasks.offset.load_embedder", lambda *_: pytest.fail("a network was loaded")
    )
    page = tmp_path / "page.html"
    words = ["offset", str(face), "--model", model, "--device", "cpu", "--report", str(page), "--dry-run"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert (
        "device cpu" in out
        and f"would write {page}" in out
        and "75 pictures" in out
        and "320×320 at 25" in out
    )
    assert main([*words, "--json"]) == 0
    (plan,) = objects(capsys.readouterr().out)
    assert plan["schema"] == "lipsync.offset.plan/1" and plan["device"] == "cpu" and plan["pictures"] == 75
    assert not page.exists()


def test_dry_run_finds_bad_input(face, model, tmp_path, capsys):
    assert main(["offset", str(tmp_path / "gone.mp4"), str(face), "--model", model, "--dry-run"]) == 3
    out, err = capsys.readouterr()
    assert "no such file" in err and str(face) in out


def test_help_imports_no_torch():
    code = (
        "import sys; from lipsync_cli.cli.app import main; main(['offset', '--help']);"
        "print('torch' in sys.modules, 'numpy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "False False" and "Examples:" in done.stdout


# ---------------------------------------------------------------- batches


def test_folders_and_patterns(face, model, tmp_path, capsys):
    for name in ("a.mp4", "deep/b.MP4", "deep/.hidden.mp4", "deep/notes.txt", "c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(face, tmp_path / name)
    words = [str(tmp_path / "[ab].mp4"), str(tmp_path), str(tmp_path / "c.mp4")]
    assert main(["offset", *words, "--model", model, "--json"]) == 4
    named = [
        Path(record["input"]).relative_to(tmp_path).as_posix() for record in objects(capsys.readouterr().out)
    ]
    assert named == ["a.mp4", "c.mp4", "deep/b.MP4"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_bad_file_in_the_middle_stops_nothing(workers, face, model, tmp_path, capsys):
    for name in ("a.mp4", "c.mp4"):
        shutil.copy(face, tmp_path / name)
    (tmp_path / "b.mp4").write_text("no video")
    results = tmp_path / "results.jsonl"
    words = ["offset", str(tmp_path), "--model", model, "--workers", workers, "--json", "--out", str(results)]
    assert main(words) == 4
    printed = objects(capsys.readouterr().out)
    assert [(Path(record["input"]).name, record["exit_code"]) for record in printed] == [
        ("a.mp4", 4),
        ("b.mp4", 3),
        ("c.mp4", 4),
    ]
    recorded = objects(results.read_text("utf-8"))
    assert [record["input"] for record in recorded] == [record["input"] for record in printed]


def start(*words: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "lipsync_cli", "offset", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # where the tests themselves run in the background, Ctrl-C is ignored, and children inherit that
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_a_result(process: subprocess.Popen, results: Path) -> None:
    for _ in range(1200):
        if results.exists() and b"\n" in results.read_bytes():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("no result within a minute")


@pytest.fixture
def many(face, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(40):
        shutil.copy(face, folder / f"{number:02d}.mp4")
    return folder


@pytest.mark.parametrize("workers", ["0", "1"])
def test_interrupted_midway_leaves_whole_lines_and_no_half_files(workers, many, model, tmp_path):
    results = tmp_path / "results.jsonl"
    words = ["--out", str(results), "--report", str(tmp_path / "r.html"), "--csv", str(tmp_path / "t.csv")]
    process = start(str(many), "--model", model, "--workers", workers, *words)
    wait_for_a_result(process, results)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the command hears it
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert {path.name for path in tmp_path.iterdir()} == {"clips", "results.jsonl"}
    assert results.read_text("utf-8").endswith("}\n")
    assert len(out.splitlines()) <= len(objects(results.read_text("utf-8"))) < 40


def test_a_killed_batch_goes_on_where_it_was(many, model, tmp_path, capsys):
    for path in sorted(many.iterdir())[4:]:
        path.unlink()
    results = tmp_path / "results.jsonl"
    process = start(str(many), "--model", model, "--workers", "1", "--out", str(results))
    wait_for_a_result(process, results)
    process.kill()
    process.communicate()
    kept = results.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    before = len(objects(kept.decode()))
    results.write_bytes(kept + b'{"schema": "lipsync.offset/1", "inp')  # the line it was writing
    words = ["offset", str(many), "--model", model, "--out", str(results)]
    assert main(words) == 2  # a file that exists is not touched without being told to
    assert "the output exists" in capsys.readouterr().err
    assert main([*words, "--resume", "--json"]) == 4
    out, err = capsys.readouterr()
    assert f"{before} of 4 clips are recorded" in err
    assert results.read_bytes().startswith(kept)
    recorded = objects(results.read_text("utf-8"))
    assert [Path(record["input"]).name for record in recorded] == ["00.mp4", "01.mp4", "02.mp4", "03.mp4"]
    assert out == results.read_text("utf-8")


# ---------------------------------------------------------------- the answer itself


@pytest.fixture
def example():
    for path in (EXAMPLE, SHIPPED / "config.json"):
        if not path.is_file():
            pytest.skip(f"{path.relative_to(ROOT)} is not there")
    return str(EXAMPLE)


def test_the_talking_photo_is_measured(example, capsys):
    """Its sound is early by 120 ms: that is how it was made."""
    assert main(["offset", example, "--json", "--standard", "ebu-r37"]) == 0
    (record,) = objects(capsys.readouterr().out)
    assert record["audio_lead_ms"] == pytest.approx(120, abs=25)
    assert record["suggested_audio_delay_ms"] == record["audio_lead_ms"]
    assert record["interval_ms"][0] < record["audio_lead_ms"] < record["interval_ms"][1]
    assert record["verdict"]["outcome"] == "FAIL" and record["confidence"] > 0.9
    assert record["reasons"] == [] and [face["speaking"] for face in record["faces"]] == [True]


def test_the_answer_is_words_first(example, capsys):
    assert main(["offset", example, "--standard", "custom", "--early-ms", "300", "--late-ms", "0"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"sound is EARLY by \d+ ms ± \d+ \(\d\.\d frames at 25\); delay it by \d+ ms", first)
    assert second == "PASS  custom: within 300 ms early to 0 ms late"


@pytest.mark.real
def test_a_phone_video_of_a_small_face(capsys):
    clip = ROOT.parent / "shared/clips/wild/garden.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip} is not there")
    if not SHIPPED.is_dir():
        pytest.skip("models/synclipmae-tiny is not there")
    assert main(["offset", str(clip), "--json"]) == 0
    (record,) = objects(capsys.readouterr().out)
    assert abs(record["audio_lead_ms"]) < 60

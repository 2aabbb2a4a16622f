"""The manifest there and back, and which clips a recipe takes of it."""

import json

import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.data.manifest import (
    MANIFEST_NAME,
    Clip,
    ClipChoice,
    choose_clips,
    read_manifest,
    write_manifest,
)


def clip(key: str, **values) -> Clip:
    return Clip(
        key=key, subject=key.split("/")[0], picture=f"{key}.mp4", sound=f"{key}.flac", num_frames=75,
        source=f"{key}.mpg", start_s=0.04, **values,
    )  # fmt: skip


CLIPS = [clip(f"{subject}/{name}") for subject in ("s1", "s2") for name in "abcde"]


def test_what_is_written_is_read(tmp_path):
    clips = [clip("s1/a", text="bin blüe", words=(("bin", 0.1, 0.25), ("blüe", 0.3, 0.5))), clip("s1/b")]
    write_manifest(tmp_path / MANIFEST_NAME, reversed(clips))
    assert read_manifest(tmp_path) == clips
    assert read_manifest(tmp_path / MANIFEST_NAME) == clips
    assert [json.loads(line)["key"] for line in (tmp_path / MANIFEST_NAME).read_text().splitlines()] == [
        "s1/a",
        "s1/b",
    ]


def test_names_of_later_versions_are_left_out(tmp_path):
    write_manifest(tmp_path / MANIFEST_NAME, CLIPS[:1])
    row = json.loads((tmp_path / MANIFEST_NAME).read_text())
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({**row, "emotion": "joy"}))
    assert read_manifest(tmp_path) == CLIPS[:1]


@pytest.mark.parametrize(
    "line", ["{", "[1]", "7", '{"key": "a"}', '{"words": [["bin", "soon", 1]]}', '{"words": 3}']
)
def test_a_line_that_is_no_clip_is_named(tmp_path, line):
    write_manifest(tmp_path / MANIFEST_NAME, CLIPS[:2])
    with (tmp_path / MANIFEST_NAME).open("a") as file:
        file.write(line)
    with pytest.raises(InputError, match="line 3 is not a clip") as caught:
        read_manifest(tmp_path)
    assert caught.value.exit_code == 3


def test_missing_and_empty_manifests_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST_NAME).write_text("")
    with pytest.raises(InputError, match="empty"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (ClipChoice(), "s1abcde s2abcde"),
        (ClipChoice(keys=("s1/*",)), "s1abcde"),
        (ClipChoice(keys=("*/a", "s2/[de]")), "s1a s2ade"),
        (ClipChoice(drop_last={"s1": 2}), "s1abc s2abcde"),
        (ClipChoice(keep_last={"s2": 1}), "s1abcde s2e"),
        (ClipChoice(keys=("s1/*",), drop_last={"s1": 1}, keep_last={"s1": 3}), "s1cd"),
        (ClipChoice(drop_last={"s1": 5}), "s2abcde"),
        (ClipChoice(drop_last={"s1": 8}), "s2abcde"),
        (ClipChoice(keep_last={"s1": 7}), "s1abcde s2abcde"),
        (ClipChoice(keep_last={"s1": 0}), "s2abcde"),
        (ClipChoice(drop_last={"s9": 2}), "s1abcde s2abcde"),
    ],
)
def test_choices(choice, names):
    wanted = [f"{group[:2]}/{name}" for group in names.split() for name in group[2:]]
    assert [chosen.key for chosen in choose_clips(CLIPS, choice)] == wanted


def test_what_is_dropped_last_and_kept_last_are_each_others_rest():
    train = choose_clips(CLIPS, ClipChoice(keys=("s1/*",), drop_last={"s1": 2}))
    test = choose_clips(CLIPS, ClipChoice(keys=("s1/*",), keep_last={"s1": 2}))
    assert sorted([*train, *test], key=lambda c: c.key) == CLIPS[:5] and not {*train} & {*test}


def test_no_clip_left_is_an_error():
    with pytest.raises(UsageError, match=r"no clip matches s7/\*") as caught:
        choose_clips(CLIPS, ClipChoice(keys=("s7/*",)))
    assert caught.value.exit_code == 2

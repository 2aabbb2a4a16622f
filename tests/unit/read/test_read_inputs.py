from pathlib import Path

import pytest

from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.tasks.read_inputs import find_inputs, parse_shard, record_names


def test_folders_patterns_and_manifests_each_clip_once(tmp_path):
    for name in ("b.mp4", "a.mov", "deep/c.mkv", "note.md", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("b.mp4\n\ndeep/c.mkv\n")
    (tmp_path / "rows.jsonl").write_text('{"path": "a.mov"}\n{"clip": "deep/c.mkv", "text": "x"}\n')
    (tmp_path / "rows.csv").write_text("id,source\n1,a.mov\n")

    def names(*arguments):
        return [p.relative_to(tmp_path).as_posix() for p in find_inputs(str(tmp_path / a) for a in arguments)]

    assert names("") == ["a.mov", "b.mp4", "deep/c.mkv"]
    assert names("*.m*") == ["a.mov", "b.mp4", "note.md"]
    assert names("list.txt", "rows.jsonl", "rows.csv") == ["b.mp4", "deep/c.mkv", "a.mov"]
    assert names("missing.mp4") == ["missing.mp4"]


@pytest.mark.parametrize(
    "name, content, word",
    [
        ("empty.txt", "\n", "names no clip"),
        ("empty.jsonl", "", "names no clip"),
        ("bad.jsonl", '{"clip": "a.mp4"}\nnonsense\n', "line 2 is not JSON"),
        ("bad.csv", "id,name\n1,a.mp4\n", "line 2 names no clip"),
    ],
)
def test_empty_and_malformed_manifests_are_refused(tmp_path, name, content, word):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=word) as refused:
        find_inputs([str(tmp_path / name)])
    assert refused.value.exit_code == 3


def test_shards_share_out_everything():
    clips = list(range(10))
    parts = [clips[part - 1 :: count] for part, count in (parse_shard(f"{i}/3") for i in (1, 2, 3))]
    assert sorted(clip for part in parts for clip in part) == clips
    for wrong in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UsageError, match="no shard"):
            parse_shard(wrong)


def test_records_of_clips_of_one_name_differ():
    names = record_names([Path("s1/a.mp4"), Path("s2/a.mp4"), Path("b.mp4")])
    assert len(set(names)) == 3 and names[2] == "b"
    assert record_names([Path("s2/a.mp4"), Path("s1/a.mp4")])[1] == names[0]

import json
from pathlib import Path

import pytest

from lipsync_cli.core.errors import InputError
from lipsync_cli.tasks.read_score import References, Score, Scorer, read_references
from lipsync_cli.tasks.read_text import ReadResult


def score(results: list[ReadResult], references: References) -> Score:
    scorer = Scorer(references)
    for result in results:
        scorer.add(result)
    return scorer.score()


def write(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rates_by_hand(tmp_path):
    said = write(
        tmp_path / "refs.jsonl",
        {"clip": "s1/a.mp4", "text": "Bin blue, now."},
        {"clip": "s2/a.mp4", "text": "set red"},
        {"clip": "b.mp4", "text": "lay"},
    )
    read = [
        ReadResult(Path("data/s1/a.mp4"), "ok", "bin red now"),  # 1 of 3 substituted
        ReadResult(Path("data/s2/a.mp4"), "ok", "set red again"),  # 1 inserted to 2
        ReadResult(Path("b.mp4"), "no_face"),  # 1 of 1 deleted
        ReadResult(Path("c.mp4"), "ok", "what"),
    ]
    rates = score(read, read_references(said))
    assert (rates.clips, rates.unread, rates.without_reference, rates.words) == (3, 1, 1, 6)
    assert (rates.substitutions, rates.deletions, rates.insertions) == (1, 1, 1)
    assert rates.wer == pytest.approx(3 / 6)
    assert rates.mean_wer == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)
    # characters: "blue" → "red" 4 edits of 12, " again" 6 of 7, "lay" 3 of 3
    assert rates.cer == pytest.approx(13 / 22)
    assert rates.mean_cer == pytest.approx((4 / 12 + 6 / 7 + 3 / 3) / 3)


@pytest.mark.parametrize(
    "rows, word",
    [
        (["{"], "line 1"),
        ([{"clip": "a.mp4", "text": "x"}, {"clip": "b.mp4"}], "line 2"),
        ([{"clip": "a.mp4", "text": 7}], "line 1"),
        ([[1]], "line 1"),
        ([{"clip": "a.mp4", "text": "x"}, {"clip": "a.mp4", "text": "y"}], "line 2 names a clip twice"),
        ([], "no reference"),
    ],
)
def test_malformed_references_are_refused(tmp_path, rows, word):
    with pytest.raises(InputError, match=word) as refused:
        read_references(write(tmp_path / "refs.jsonl", *rows))
    assert refused.value.exit_code == 3


def test_no_clip_with_a_reference_is_an_error(tmp_path):
    references = read_references(write(tmp_path / "refs.jsonl", {"clip": "a.mp4", "text": "x"}))
    with pytest.raises(InputError, match="no clip has a reference"):
        score([ReadResult(Path("b.mp4"), "ok", "x")], references)

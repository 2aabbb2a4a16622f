"""The file of segments: what it may say, and what is refused."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lipsync_cli.core.errors import InputError, LipsyncError
from lipsync_cli.dubbing.segments import Segment, read_segments


def test_json_and_csv_say_the_same(tmp_path):
    as_json, as_csv = tmp_path / "a.json", tmp_path / "a.csv"
    as_json.write_text(
        '{"segments": [{"start": 4.5, "end": 6, "driver_video": "b.mp4", "face": 2, "seed": 7,'
        ' "on_length_mismatch": "cut"}, {"start": 0.1, "end": 3.2, "audio": "sub/a.wav"}]}'
    )
    as_csv.write_text(
        "\ufeffstart,end,audio,driver_video,face,seed,on_length_mismatch\n4.5,6,,b.mp4,2,7,cut\n0.1,3.2,sub/a.wav,,,,\n"
    )
    wanted = (
        Segment(Fraction(1, 10), Fraction(16, 5), tmp_path / "sub/a.wav"),
        Segment(Fraction(9, 2), Fraction(6), tmp_path / "b.mp4", True, "2", 7, "cut"),
    )
    assert read_segments(as_json) == read_segments(as_csv) == wanted


def test_the_list_alone_will_do_and_ends_may_be_left_open(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"audio": "a.wav"}]')
    assert read_segments(path) == (Segment(None, None, tmp_path / "a.wav"),)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("not json", "no list of segments"),
        ("{}", "no list of segments"),
        ("[]", "no list of segments"),
        ('["a.wav"]', "no list of segments"),
        ('[{"start": 0}]', "either 'audio' or 'driver_video'"),
        ('[{"audio": "a", "driver_video": "b"}]', "either 'audio' or 'driver_video'"),
        ('[{"audio": "a", "volume": 3}]', "unknown 'volume'"),
        ('[{"audio": "a", "start": 2, "end": 1}]', "ends before it starts"),
        ('[{"audio": "a", "start": "soon"}]', "no time in seconds"),
        ('[{"audio": "a", "start": -1}]', "before the clip"),
        ('[{"audio": "a", "on_length_mismatch": "pray"}]', "pray"),
        ('[{"audio": "a", "seed": "x"}]', "seed"),
        ('[{"audio": "a", "start": 0, "end": 2}, {"audio": "b", "start": 1.5, "end": 3}]', "overlap at 1.5"),
        ('[{"audio": "a"}, {"audio": "b", "start": 1}]', "overlap"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, word):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(LipsyncError) as caught:
        read_segments(path)
    assert caught.value.exit_code == 2
    assert word in caught.value.message and str(path) in caught.value.message


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_segments(tmp_path / "none.json")

"""Subtitles, character for character: written by hand from the formats' definitions."""

from pathlib import Path

from lipsync_cli.tasks.read_format import as_csv, as_srt, as_text, as_vtt, cues
from lipsync_cli.tasks.read_text import ReadResult, Speaker, Word


def result(*speakers: list[Word], start_s: float = 0.0) -> ReadResult:
    made = tuple(
        Speaker(number, 0, " ".join(w.text for w in said), 0.5, tuple(said), ())
        for number, said in enumerate(speakers)
    )
    return ReadResult(Path("a.mp4"), "ok", " ".join(s.text for s in made), made, start_s, 9.0)


SAID = [
    Word("bin", 1.04, 1.2, 0.9),
    Word("blue", 1.2, 1.44, 0.75),
    Word("now", 3661.5, 3661.625, 1.0),
]


def test_srt():
    assert as_srt(result(SAID)) == (
        "1\n00:00:01,040 --> 00:00:02,040\nbin blue\n\n2\n01:01:01,500 --> 01:01:02,500\nnow\n"
    )


def test_vtt():
    assert as_vtt(result(SAID)) == (
        "WEBVTT\n\n00:00:01.040 --> 00:00:02.040\nbin blue\n\n01:01:01.500 --> 01:01:02.500\nnow\n"
    )


def test_csv_keeps_the_containers_time():
    assert as_csv(result(SAID[:1], start_s=1.0)) == (
        "clip,status,face,word,start_s,end_s,confidence\na.mp4,ok,0,bin,1.040,1.200,0.900\n"
    )
    unread = ReadResult(Path("b, c.mp4"), "no_face")
    assert as_csv(unread, header=False) == '"b, c.mp4",no_face,,,,,\n'


def test_text_names_faces_only_when_there_are_several():
    assert as_text(result(SAID)) == "bin blue now"
    assert as_text(result(SAID[:2], SAID[2:])) == "face 0: bin blue\nface 1: now"


def test_cues_count_from_the_clips_first_instant():
    assert as_srt(result(SAID[:2], start_s=1.0)).startswith("1\n00:00:00,040 --> 00:00:01,040\n")


def test_cue_breaks_at_two_lines_and_seven_seconds():
    long = [Word("abcdefghi", 0.4 * n, 0.4 * n + 0.3, 1.0) for n in range(30)]
    for cue in cues(result(long)):
        lines = cue.text.split("\n")
        assert len(lines) <= 2 and max(map(len, lines)) <= 42
        assert cue.end_s - cue.start_s <= 7
    assert " ".join(cue.text for cue in cues(result(long))).split() == ["abcdefghi"] * 30


def test_a_short_cue_stays_a_second_unless_another_follows():
    said = [Word("a", 0.0, 0.1, 1.0), Word("b", 0.95, 1.0, 1.0)]
    assert [(cue.start_s, cue.end_s) for cue in cues(result(said))] == [(0.0, 0.95), (0.95, 1.95)]


def test_cues_of_several_faces_are_named_and_in_order_of_time():
    both = result([Word("second", 2.0, 2.5, 1.0)], [Word("first", 1.0, 1.5, 1.0)])
    assert [cue.text for cue in cues(both)] == ["face 1: first", "face 0: second"]


def test_nothing_read_makes_empty_subtitles():
    empty = ReadResult(Path("a.mp4"), "no_motion")
    assert as_srt(empty) == "" and as_vtt(empty) == "WEBVTT\n"

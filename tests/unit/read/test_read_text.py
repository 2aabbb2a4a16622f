import pytest

from lipsync_cli.tasks.read_text import Reading, Word, gather_speakers, stitch_words


def words(*said: tuple[str, float]) -> tuple[Word, ...]:
    return tuple(Word(text, middle - 0.1, middle + 0.1, 0.5) for text, middle in said)


def texts(stitched) -> str:
    return " ".join(word.text for word in stitched)


def test_each_reading_is_believed_on_its_side_of_the_seam():
    before = words(("a", 1), ("b", 2), ("wrong", 3))
    after = words(("bad", 2), ("c", 3), ("d", 4))
    assert texts(stitch_words(before, after, 2.5)) == "a b c d"


def test_word_at_the_seam_is_neither_doubled_nor_lost():
    # the first reading puts "b" just before the seam, the second just after it
    assert texts(stitch_words(words(("a", 1), ("b", 2.45)), words(("b", 2.55), ("c", 3)), 2.5)) == "a b c"
    # the other way about: each leaves it to the other
    assert texts(stitch_words(words(("a", 1), ("b", 2.55)), words(("b", 2.45), ("c", 3)), 2.5)) == "a b c"


def test_same_word_said_twice_stays_twice():
    before, after = words(("no", 1), ("no", 2)), words(("no", 3), ("no", 4))
    assert texts(stitch_words(before, after, 2.5)) == "no no no no"


def test_nothing_overlaps_nothing_is_cut():
    assert texts(stitch_words((), words(("a", 1)), 0.5)) == "a"


def test_speakers_in_order_of_appearance_without_those_that_say_nothing():
    def reading(face, start_s, overlap_s, *said):
        return Reading(face, 0, start_s, start_s + 3, overlap_s, words(*said), ())

    speakers = gather_speakers(
        [
            reading(2, 5.0, 0.0, ("late", 6)),
            reading(1, 0.0, 0.0, ("a", 1), ("b", 2.6)),
            reading(1, 2.0, 1.0, ("b", 2.6), ("c", 4)),
            reading(3, 0.0, 0.0),
        ]
    )
    assert [(s.face, s.text) for s in speakers] == [(1, "a b c"), (2, "late")]
    assert speakers[0].confidence == pytest.approx(0.5)
    assert len(speakers[0].readings) == 2

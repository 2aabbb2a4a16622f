import pytest

from lipsync_cli.core.errors import InputError, WeightsError
from lipsync_cli.networks.vsr.units import Units

PIECES = ["<unk> 1", "' 2", "▁the 3", "s 4", "▁t 5", "he 6", "▁ 7", "t 8"]


@pytest.mark.parametrize("units", [Units.characters(), Units.words(["set", "white", "now", "it's"])])
def test_text_survives_writing_and_reading(units):
    for text in ("set white now", "it's now", "now", ""):
        assert units.decode(units.encode(text)) == text


def test_characters_are_spelled_with_a_boundary_before_each_word():
    units = Units.characters("abc")
    assert units.names == ("<blank>", "▁", "a", "b", "c", "<eos>")
    assert units.encode("ab c") == [1, 2, 3, 1, 4]
    assert units.end == 5


def test_published_list_is_numbered_from_one():
    units = Units.from_lines(PIECES)
    assert len(units) == len(PIECES) + 2
    assert units.names[3] == "▁the"
    assert units.encode("the") == [3]  # the longest piece first
    assert units.decode([5, 6, 4, 0, 3, 9]) == "thes the"
    assert units.decode([7, 8, 6]) == "the"


@pytest.mark.parametrize(
    ("lines", "line"),
    [(["a 1", "b 3"], 2), (["a 1", "a 2"], 2), (["a 1", "", "b 3"], 2), (["a 0"], 1)],
)
def test_broken_lists_are_refused_by_line(lines, line):
    with pytest.raises(WeightsError, match=f"Line {line} of the unit list") as caught:
        Units.from_lines(lines)
    assert caught.value.exit_code == 5


def test_word_without_units_is_named():
    with pytest.raises(InputError, match='"blau"') as caught:
        Units.words(["blue"]).encode("blue blau")
    assert caught.value.exit_code == 3


def test_words_are_split_where_boundaries_stand():
    units = Units.from_lines(PIECES)
    assert units.split_words([3, 4, 5, 6]) == [range(0, 2), range(2, 4)]
    assert units.split_words([8, 6, 7, 8, 7]) == [range(0, 2), range(2, 4)]  # a boundary alone is no word
    assert units.split_words([]) == []
    assert [units.decode([3, 4, 5, 6][r.start : r.stop]) for r in units.split_words([3, 4, 5, 6])] == [
        "thes",
        "the",
    ]


@pytest.mark.parametrize("names", [("a", "b", "<eos>"), ("<blank>", "<eos>"), ("<blank>", "a", "a", "<eos>")])
def test_senseless_units_are_refused(names):
    with pytest.raises(ValueError, match="unit"):
        Units(names)


def test_text_is_folded_to_the_case_of_the_units():
    capitals = Units.from_lines(["<unk> 1", "' 2", "▁RED 3", "▁N 4", "OW 5"])
    assert capitals.encode(capitals.fold("Red now")) == [3, 4, 5]
    assert Units.characters().fold("Red NOW") == "red now"

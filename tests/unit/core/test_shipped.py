"""Recipes and models are found in an installed package and in a repository alike."""

import pytest

from lipsync_cli.core import shipped
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.shipped import did_you_mean, find_recipe, list_recipes, shipped_folder


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A package beside a `recipes` folder, as in a repository."""
    package = tmp_path / "lipsync_cli"
    package.mkdir()
    for name in ("pretrain/base", "pretrain/tiny", "dub/editor"):
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a: 1\n")
    monkeypatch.setattr(shipped, "PACKAGE", package)
    return tmp_path


def test_recipes_are_found_by_looking(house):
    assert list(list_recipes()) == ["dub/editor", "pretrain/base", "pretrain/tiny"]
    assert list(list_recipes("pretrain")) == ["pretrain/base", "pretrain/tiny"]
    assert find_recipe("pretrain", "tiny") == house / "recipes/pretrain/tiny.yaml"


def test_an_installed_package_carries_its_own(house):
    (house / "lipsync_cli/_recipes").mkdir()
    assert shipped_folder("recipes") == house / "lipsync_cli/_recipes"
    assert list_recipes() == {}


def test_a_path_is_taken_as_it_is(house):
    path = house / "mine.yaml"
    path.write_text("a: 1\n")
    assert find_recipe("pretrain", str(path)) == path
    with pytest.raises(UsageError, match="no such recipe"):
        find_recipe("pretrain", str(house / "gone.yaml"))


def test_a_wrong_name_is_guessed(house):
    with pytest.raises(UsageError, match="did you mean 'tiny'") as caught:
        find_recipe("pretrain", "tinny")
    assert caught.value.hint == "use one of: base, tiny"


def test_a_far_word_is_not_guessed():
    assert did_you_mean("xyz", ["base", "tiny"]) == ""


def test_this_installation_has_its_models():
    assert (shipped_folder("models") / "face-mediapipe" / "config.json").is_file()

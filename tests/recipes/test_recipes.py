"""Every recipe that ships can be read, and the tiny one trains."""

import json

import pytest
import yaml

from lipsync_cli.cli.app import main
from lipsync_cli.core.config import build_config, dump_config, load_config
from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.shipped import list_recipes
from lipsync_cli.networks.synclipmae.objective import PretrainObjective, PretrainRecipe
from lipsync_cli.tasks.train import TRAINABLES, TrainRequest, load_recipe, run_recipe
from lipsync_cli.training.log import read_log
from tests.prepared_clips import KEYS, SHRUNK, write_prepared

RECIPES = list_recipes()
MANIFEST = "data.manifest=prepared"


def test_recipes_ship():
    assert len(RECIPES) >= 2
    assert {"pretrain/synclipmae_base", "pretrain/synclipmae_tiny"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_loads_and_goes_through_yaml_unchanged(name, tmp_path):
    verb, _, short = name.partition("/")
    recipe, trainable = load_recipe(verb, short, [MANIFEST])
    assert isinstance(recipe, trainable.recipe) and recipe.objective in TRAINABLES
    assert recipe.data.manifest == "prepared"
    (tmp_path / "again.yaml").write_text(dump_config(recipe))
    assert load_config(tmp_path / "again.yaml", trainable.recipe) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_wants_its_manifest(name):
    verb, _, short = name.partition("/")
    with pytest.raises(UsageError, match=r"data\.manifest: must be given"):
        load_recipe(verb, short, [])


def test_base_is_the_papers_size():
    recipe, _ = load_recipe("pretrain", "synclipmae_base", [MANIFEST])
    assert isinstance(recipe, PretrainRecipe)
    encoder, decoder = recipe.model.encoder, recipe.model.decoder
    assert (encoder.width, encoder.layers, encoder.heads, encoder.patch_px, encoder.context_frames) == (
        1024,
        24,
        16,
        16,
        1,
    )
    assert (decoder.width, decoder.layers) == (512, 8)
    assert recipe.model.mask.ratio == 0.75 and not recipe.model.centre and recipe.loss.decode_frames == 0
    assert recipe.init_encoder == "sapiens-0.3b" and recipe.licence == "CC-BY-NC-4.0"
    assert (recipe.loop.steps, recipe.loop.batch_size) == (400_000, 128 * 48)


def test_print_config_is_a_recipe(capsys, tmp_path):
    command = ["train", "pretrain", "--recipe", "synclipmae_tiny", "--set", MANIFEST, "--set", "loop.steps=7"]
    assert main([*command, "--print-config"]) == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert yaml.safe_load(path.read_text())["loop"]["steps"] == 7
    assert main(["train", "pretrain", "--recipe", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == path.read_text()


@pytest.mark.parametrize(
    ("override", "meant"),
    [("loop.stepz=3", "steps"), ("model.encodr.width=3", "encoder"), ("loss.contrast=1", "contrastive")],
)
def test_an_unknown_name_is_named_with_the_one_meant(override, meant, capsys):
    command = ["train", "pretrain", "--recipe", "synclipmae_tiny", "--set", MANIFEST, "--set", override]
    assert main([*command, "--print-config"]) == 2
    said = capsys.readouterr().err
    assert override.partition("=")[0].split(".")[1] in said and f"did you mean '{meant}'" in said


def test_an_unknown_objective_and_recipe_are_refused():
    with pytest.raises(UsageError, match="did you mean 'synclipmae'"):
        load_recipe("pretrain", "synclipmae_tiny", [MANIFEST, "objective=synclipmea"])
    with pytest.raises(UsageError, match="did you mean 'synclipmae_tiny'"):
        load_recipe("pretrain", "synclipmae_tinny", [MANIFEST])


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("prepared"), KEYS)


@pytest.fixture
def _fresh_accelerator():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("_fresh_accelerator")
def test_two_steps_of_the_tiny_recipe(clips, tmp_path, capsys):
    sets = [f"data.manifest={clips}", *SHRUNK, "loop.steps=2", "loop.log_every=1"]
    command = [
        "train",
        "pretrain",
        "--recipe",
        "synclipmae_tiny",
        "--cpu",
        "--json",
        "-q",
        "--out",
        str(tmp_path),
    ]
    assert main([*command, *(word for value in sets for word in ("--set", value))]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "lipsync.train/1" and answer["steps"] == 2
    first, second = (line for line in read_log(tmp_path / "log.jsonl") if line["event"] == "train")
    for name in ("loss", "contrastive", "pixel_vocal", "pixel_audio", "covariance"):
        assert 0 <= first[name] < 1e4 and first[name] != second[name]
    assert first["loss"] == pytest.approx(
        first["pixel_vocal"] + first["pixel_audio"] + first["contrastive"] + 0.04 * first["covariance"],
        rel=1e-2,
    )
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert {"acc_k1", "acc_k5", "acc_k15", "r1_same"} <= answer["metrics"].keys()


def shrunk(clips, *overrides: str) -> PretrainObjective:
    recipe, _ = load_recipe("pretrain", "synclipmae_tiny", [f"data.manifest={clips}", *SHRUNK, *overrides])
    return PretrainObjective(recipe)


def test_examples_depend_on_their_number_alone(clips):
    first, again = (shrunk(clips).example(5) for _ in range(2))
    other = shrunk(clips).example(6)
    assert all((first[name] == again[name]).all() for name in first)
    assert not (first["frames"] == other["frames"]).all()
    assert first["frames"].shape == (8, 1, 32, 32) and first["sound"].shape == (8 * 640,)
    assert first["visible_uniform"].shape == first["visible_face"].shape == (8, 1)
    assert sorted(first["order"].tolist()) == list(range(4)) and len(set(first["chosen"].tolist())) == 4


def test_validation_clips_are_never_trained_on(clips):
    objective = shrunk(clips)
    assert {clip.subject for clip in objective._train.clips} == {"a", "b"}
    assert {clip.subject for clip in objective._validate.clips} == {"c"}


def test_clips_that_do_not_fit_are_refused(clips):
    with pytest.raises(UsageError, match="21 frames"):
        shrunk(clips, "data.window_frames=21")
    with pytest.raises(UsageError, match="36 px wide where 64 px") as caught:
        shrunk(clips, "model.encoder.image_px=64").build()
    assert "--face-px 64" in caught.value.hint


def test_a_missing_manifest_is_an_input_error(tmp_path):
    run = TrainRequest("pretrain", "synclipmae_tiny", tmp_path, (f"data.manifest={tmp_path}/none",), cpu=True)
    with pytest.raises(Exception, match="no such manifest") as caught:
        run_recipe(run)
    assert getattr(caught.value, "exit_code", None) == 3


def test_every_fault_is_reported_at_once():
    data = {
        "objective": "synclipmae",
        "data": {"manifest": "???", "windw_frames": 5},
        "loop": {"steps": "many"},
    }
    with pytest.raises(UsageError, match="3 faults"):
        build_config(data, PretrainRecipe, source="recipe")

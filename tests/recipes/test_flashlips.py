"""The FlashLips recipes: the paper's numbers, and every stage trained in turn, small, from the folder of the one before."""

import json

import numpy as np
import pytest
import torch

from lipsync_cli.cli.app import main
from lipsync_cli.core.errors import InputError, UsageError
from lipsync_cli.hub.model_folder import read_weights
from lipsync_cli.networks.flashlips.weights import load_flashlips
from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe
from lipsync_cli.training.log import read_log
from tests.prepared_clips import KEYS, write_prepared
from tests.speaking_faces import write_faces

STAGES = ("expression", "editor", "refine", "distil", "audio2lips")
TRUNK = "{depth: 10, width: 8}"
SMALL = {
    "expression": ("image_px=32", f"model={{trunk: {TRUNK}, image_px: 32, latent: 8}}"),
    "editor": (
        "autoencoder={kind: pixels, factor: 4}", "features={image: '', face: ''}",
        f"lips={{main: 3, extra: 2, hidden: 8, extra_trunk: {TRUNK}, mouth_px: 16}}",
        "model={latent_channels: 48, reference_channels: 8, lips_numbers: 5, channels: [16, 24], blocks: 1, groups: 8, "
        "reference_width: 16, reference_blocks: 1}",
    ),
    "refine": ("features={image: '', face: ''}",),
    "distil": (f"model={{trunk: {TRUNK}, image_px: 32, numbers: 5}}",),
    "audio2lips": (
        "model={speech: {branch: mel, width: 8, hidden: 16}, frames: 8, lips: 5, width: 32, depth: 1, heads: 2}",
        "sampler={steps: 2}", "data.context_frames=3", "data.lips_folder=''",
    ),
}  # fmt: skip
LOOP = (
    "loop.batch_size=4", "loop.workers=0", "loop.precision='no'", "loop.log_every=1", "loop.steps=2",
    "loop.optim.lr=1e-3", "data.validate={keys: ['c/*']}", "data.train={keys: ['a/*', 'b/*']}",
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"))


def request(stage, clips, runs, *overrides) -> TrainRequest:
    sets = [f"data.manifest={clips}", *LOOP, *SMALL[stage]]
    if stage != "expression":
        sets.append(f"start={runs / STAGES[STAGES.index(stage) - 1] / 'model'}")
    return TrainRequest("dub", f"flashlips_{stage}", runs / stage, (*sets, *overrides), cpu=True)


@pytest.fixture
def _fresh_accelerator():
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def runs(clips, tmp_path_factory):
    """Every stage, trained for two steps."""
    from accelerate.state import AcceleratorState

    folder = tmp_path_factory.mktemp("runs")
    for stage in STAGES:
        AcceleratorState._reset_state(reset_partial_state=True)
        run_recipe(request(stage, clips, folder))
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_trains(stage, runs):
    lines = [line for line in read_log(runs / stage / "log.jsonl") if line["event"] == "train"]
    assert len(lines) == 2
    assert all(0 < line["loss"] < 1e4 and line["grad_norm"] > 0 for line in lines)
    assert lines[0]["loss"] != lines[1]["loss"]
    validation = [line for line in read_log(runs / stage / "log.jsonl") if line["event"] == "validate"]
    assert len(validation) == 1 and len(validation[0]) > 2
    assert all(np.isfinite(value) for value in validation[0].values() if isinstance(value, float))


def test_the_last_folder_holds_what_a_dub_needs_and_no_more(runs):
    model = load_flashlips(runs / "audio2lips" / "model")
    assert set(dict(model.named_children())) == {"distilled", "editor", "audio2lips"}
    assert not model.config.masked and model.config.image_px == 32
    assert load_flashlips(runs / "editor" / "model").config.masked


def test_frozen_networks_stay_what_they_were(runs):
    weights = {stage: read_weights(runs / stage / "model" / "model.safetensors") for stage in STAGES}

    def same(name, first, second):
        return torch.equal(weights[first][name], weights[second][name])

    expression = [name for name in weights["expression"] if name.startswith("expression.")]
    assert expression
    for name in expression:
        assert torch.equal(weights["expression"][name], weights["editor"][f"lips.{name}"])
    lips = [name for name in weights["editor"] if name.startswith("lips.")]
    assert lips and all(same(name, "editor", "distil") for name in lips)
    editor = [name for name in weights["refine"] if name.startswith("editor.") and name.endswith("weight")]
    assert all(same(name, "refine", "audio2lips") for name in editor)
    assert not all(same(name, "editor", "refine") for name in editor)  # LipsChange began as it, and learnt


@pytest.mark.usefixtures("_fresh_accelerator")
@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_is_the_uninterrupted_one(stage, clips, runs, tmp_path):
    from accelerate.state import AcceleratorState

    from lipsync_cli.training.loop import train

    folder = tmp_path / stage
    asked = request(stage, clips, runs, "loop.checkpoint_every=1")
    recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)

    class Interrupted(Exception):
        pass

    class Once:
        """The objective, whose second step never comes."""

        def __init__(self, objective):
            self._objective = objective

        def __getattr__(self, name):
            return getattr(self._objective, name)

        def example(self, index):
            if index >= recipe.loop.batch_size:
                raise Interrupted
            return self._objective.example(index)

    with pytest.raises(Interrupted):
        train(Once(trainable.build(recipe)), recipe.loop, folder, cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    train(trainable.build(recipe), recipe.loop, folder, cpu=True)
    resumed = read_weights(folder / "model" / "model.safetensors")
    whole = read_weights(runs / stage / "model" / "model.safetensors")
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.usefixtures("_fresh_accelerator")
@pytest.mark.parametrize(("stage", "steps"), [("expression", 30), ("editor", 30), ("distil", 30)])
def test_the_loss_falls(stage, steps, clips, runs, tmp_path):
    overrides = (f"loop.steps={steps}", "data.augment={colour: 0.0}", "loop.optim.lr=3e-3")
    run_recipe(
        TrainRequest(
            "dub", f"flashlips_{stage}", tmp_path, request(stage, clips, runs, *overrides).overrides, cpu=True
        )
    )
    losses = [line["loss"] for line in read_log(tmp_path / "log.jsonl") if line["event"] == "train"]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_examples_depend_on_their_number_alone(clips, runs):
    for stage in STAGES:
        asked = request(stage, clips, runs)
        recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)
        first, again = (trainable.build(recipe).example(5) for _ in range(2))
        other = trainable.build(recipe).example(6)
        assert all((first[name] == again[name]).all() for name in first)
        assert any((first[name] != other[name]).any() for name in first)


def test_two_thirds_of_the_pairs_go_to_the_synthetic(clips, runs):
    asked = request("refine", clips, runs)
    recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)
    objective = trainable.build(recipe)
    back = np.mean([float(objective.example(index)["back"]) for index in range(600)])
    assert abs(back - 1 / 3) < 3 * np.sqrt(2 / 9 / 600)


def recipe_of(stage):
    return load_recipe("dub", f"flashlips_{stage}", ["data.manifest=x"])[0]


def test_the_papers_numbers():
    editor, refine, sound = recipe_of("editor"), recipe_of("refine"), recipe_of("audio2lips")
    assert (editor.loop.steps, refine.loop.steps, editor.loop.batch_size) == (1_000_000, 200_000, 32)
    for recipe in (editor, refine):
        optim = recipe.loop.optim
        assert optim.lr == 1e-4 and optim.lr * optim.final_lr == pytest.approx(1e-8)
        loss = recipe.loss
        weights = (loss.latent, loss.latent_mouth, loss.pixel_mouth, loss.pixel_lips)
        assert (*weights, loss.features, loss.face_features) == (0.1, 0.1, 10, 100, 50, 5)
    assert editor.model.input_channels == 52 and refine.to_synthetic == pytest.approx(2 / 3)
    assert (sound.loop.optim.lr, sound.loop.optim.final_lr) == (5e-5, 1.0)
    assert (sound.model.frames, sound.model.depth, sound.model.width, sound.model.references) == (
        60,
        8,
        1024,
        4,
    )
    assert recipe_of("distil").model.image_px == 384 and recipe_of("distil").model.trunk.depth == 50


def test_a_stage_that_comes_too_early_is_told_what_comes_first(clips, runs):
    for stage, start, word in (("refine", "expression", "flashlips_editor"), ("distil", "expression", "editor"),
                               ("audio2lips", "expression", "editor"), ("editor", "refine", "expression")):  # fmt: skip
        asked = request(stage, clips, runs, f"start={runs / start / 'model'}")
        recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)
        with pytest.raises(UsageError) as caught:
            trainable.build(recipe)
        assert word in caught.value.hint and caught.value.exit_code == 2


def test_numbers_that_do_not_fit_are_refused(clips, runs):
    for stage, override in (("editor", "model.lips_numbers=7"), ("distil", "model.numbers=7"),
                            ("audio2lips", "model.lips=7")):  # fmt: skip
        asked = request(stage, clips, runs, override)
        recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)
        with pytest.raises(UsageError, match="5 numbers") as caught:
            trainable.build(recipe)
        assert caught.value.hint == f"--set {override.replace('7', '5')}"


def test_clips_without_landmarks_are_refused(runs, tmp_path):
    bare = write_prepared(tmp_path, KEYS)
    for stage in STAGES:
        recipe, trainable = load_recipe("dub", f"flashlips_{stage}", request(stage, bare, runs).overrides)
        with pytest.raises(InputError, match="landmarks") as caught:
            trainable.build(recipe)
        assert caught.value.exit_code == 3


def test_crops_that_are_too_small_are_refused(clips, runs):
    asked = request("expression", clips, runs, "image_px=64")
    recipe, trainable = load_recipe("dub", asked.recipe, asked.overrides)
    with pytest.raises(UsageError, match="36 px wide where 64 px") as caught:
        trainable.build(recipe).example(0)
    assert "--face-px 64" in caught.value.hint


@pytest.mark.usefixtures("_fresh_accelerator")
def test_the_command(clips, tmp_path, capsys):
    sets = [f"data.manifest={clips}", *LOOP, *SMALL["expression"]]
    command = [
        "train",
        "dub",
        "--recipe",
        "flashlips_expression",
        "--cpu",
        "--json",
        "-q",
        "--out",
        str(tmp_path),
    ]
    assert main([*command, *(word for value in sets for word in ("--set", value))]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "lipsync.train/1" and answer["steps"] == 2
    assert {"error", "error_moving", "error_of_still"} <= answer["metrics"].keys()

"""From a recipe and prepared clips to a reader that reads: mouths and vocal tokens."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from lipsync_cli.core.errors import UsageError, WeightsError
from lipsync_cli.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from lipsync_cli.hub.checksums import write_sums
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.vsr.recipe import ReadRecipe, build_objective
from lipsync_cli.networks.vsr.weights import load_reader
from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe
from tests.face_clips import write_random_model
from tests.prepared_clips import KEYS, write_prepared

TINY = (
    "data.train={keys: ['a/*', 'b/*']}", "data.validate={seen: {keys: ['c/four']}, unseen: {keys: ['c/five']}}",
    "data.face_px=32", "data.slack_px=2", "model.model.reads=video",
    "model.model.frontend_width=2", "model.model.width=16", "model.model.heads=2",
    "model.model.ffn_width=16", "model.model.encoder_blocks=1", "model.mouth={face_px: 32, height_px: 12, width_px: 16}",
    "model.cut_frames=16", "model.decode.beam=2", "loop.steps=2", "loop.batch_size=2", "loop.precision='no'",
    "loop.checkpoint_every=1", "average_checkpoints=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = write_prepared(tmp_path_factory.mktemp("prepared"), KEYS)
    words = (("bin", 0.0, 0.2), ("blue", 0.2, 0.48))
    clips = [replace(clip, text="Bin blue.", words=words) for clip in read_manifest(folder)]
    write_manifest(folder / MANIFEST_NAME, clips)
    return folder


def recipe(folder, *overrides: str) -> ReadRecipe:
    return load_recipe("read", "vsr_grid_tiny", [f"data.manifest={folder}", *TINY, *overrides])[0]


def test_two_steps_leave_a_reader_that_loads(prepared, tmp_path):
    overrides = [f"data.manifest={prepared}", *TINY]
    result = run_recipe(TrainRequest("read", "vsr_grid_tiny", tmp_path / "run", overrides, cpu=True))
    assert {"wer", "cer", "grammar_wer", "unseen_wer", "unseen_grammar_wer"} <= result.metrics.keys()
    loaded = load_reader(load_model_folder(tmp_path / "run" / "model", network="vsr"), torch.device("cpu"))
    assert (loaded.window.height_px, loaded.window.width_px, loaded.window_frames) == (12, 16, 75)
    assert len(loaded.units) == 53 and loaded.decode.beam == 2 and not loaded.reader.training
    described = json.loads((tmp_path / "run/model/config.json").read_text())
    assert described["config"]["metrics"].keys() == result.metrics.keys()

    again = build_objective(recipe(prepared, f"start={tmp_path / 'run' / 'model'}")).build()
    for name, tensor in loaded.reader.state_dict().items():
        assert torch.equal(again.state_dict()[f"reader.{name}"], tensor)


def test_examples_are_cut_around_the_words(prepared):
    example = build_objective(recipe(prepared)).example(0)
    assert example["inputs"].shape == (75, 1, 12, 16) and example["lengths"] == 16
    assert len({int(unit) for unit in example["said"] if unit > 0}) == 2


def test_tokens_are_made_in_several_views(prepared, tmp_path):
    tokens = write_random_model(tmp_path / "tokens")
    objective = build_objective(
        recipe(
            prepared,
            "model.model.reads=tokens",
            "model.model.token_width=1",
            f"tokens={tokens}",
            "token_views=2",
        )
    )
    assert objective.config.model.token_width == 32
    seen = {tuple(objective.example(n)["inputs"].flatten().tolist()) for n in range(30)}
    assert len(seen) > 3  # three clips, two views and masks of each
    losses = objective.build()({name: value[None] for name, value in objective.example(0).items()})
    assert torch.isfinite(losses["loss"])


def test_reader_of_tokens_refuses_those_of_other_weights(prepared, tmp_path):
    tokens = write_random_model(tmp_path / "tokens")
    overrides = ["model.model.reads=tokens", f"tokens={tokens}", "token_views=1"]
    request = TrainRequest(
        "read", "vsr_grid_tiny", tmp_path / "run", [f"data.manifest={prepared}", *TINY, *overrides], cpu=True
    )
    run_recipe(request)
    folder = load_model_folder(tmp_path / "run" / "model", network="vsr")
    assert load_reader(folder, torch.device("cpu")).embedder is not None
    weights = load_file(tokens / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, tokens / "model.safetensors")
    write_sums(tokens)
    with pytest.raises(WeightsError, match="wrong checksum") as refused:
        load_reader(folder, torch.device("cpu"))
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    "overrides, word",
    [
        (["data.validate={seen: {keys: ['a/one', 'c/four']}}"], "1 clips are trained on too, such as a/one"),
        (["units=nowhere.txt"], "no such unit list"),
        (["model.model.reads=tokens", "tokens=''"], "needs a token model"),
        (["data.max_frames=3"], "no clip has a text"),
    ],
)
def test_recipes_that_cannot_mean_what_they_say(prepared, overrides, word):
    with pytest.raises(UsageError, match=word):
        build_objective(recipe(prepared, *overrides))

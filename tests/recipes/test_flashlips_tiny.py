"""The small FlashLips from prepared clips to an engine: both recipes for two steps, small."""

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState

from lipsync_cli.core.errors import InputError
from lipsync_cli.data.manifest import MANIFEST_NAME, read_manifest, write_manifest
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.flashlips.tiny import load_tiny
from lipsync_cli.tasks.engines import load_engine
from lipsync_cli.tasks.train import TrainRequest, load_recipe, run_recipe
from lipsync_cli.training.log import read_log
from tests.speaking_faces import write_faces

CLIPS = ("data.validate={keys: ['c/*']}", "data.train={keys: ['a/*', 'b/*']}")
LOOP = ("loop.batch_size=2", "loop.precision='no'", "loop.log_every=1", "loop.steps=2")
EDITOR = (
    "editor={side_px: 96, lips_numbers: 6, channels: [4, 8, 8], flow_channels: [4, 8], blocks: 1}",
    "lips={main: 4, extra: 2, mouth_px: 48, channels: [4, 4]}", "data.cache_gb=0.1",
)  # fmt: skip
HEARING = (
    "model={speech: {branch: mel, width: 8, hidden: 8}, frames: 8, lips: 6, references: 2, emotions: 0, pose: 0, "
    "width: 16, depth: 1, heads: 2}",
    "sampler={steps: 2}", "data.context_frames=3",
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("faces"), num_frames=30, size_px=128, margin_px=8)


@pytest.fixture(scope="module")
def runs(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    manifest = f"data.manifest={clips}"
    start = f"start={folder / 'editor' / 'model'}"
    for name, sets in (("editor", (manifest, *EDITOR)), ("audio2lips", (manifest, start, *HEARING))):
        AcceleratorState._reset_state(reset_partial_state=True)
        asked = (*CLIPS, *LOOP, *sets)
        run_recipe(TrainRequest("dub", f"flashlips_{name}_tiny", folder / name, asked, cpu=True))
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


@pytest.mark.parametrize("name", ["editor", "audio2lips"])
def test_a_stage_trains(runs, name):
    lines = [line for line in read_log(runs / name / "log.jsonl") if line["event"] == "train"]
    assert len(lines) == 2 and all(0 < line["loss"] < 100 and line["grad_norm"] > 0 for line in lines)


def test_the_second_stage_keeps_the_first(runs):
    first, second = (load_tiny(load_model_folder(runs / name / "model")) for name in ("editor", "audio2lips"))
    assert first.audio2lips is None and second.audio2lips is not None
    for name, tensor in first.editor.state_dict().items():
        assert torch.equal(tensor, second.editor.state_dict()[name]), name
    assert torch.equal(first.lips.basis, second.lips.basis) and first.lips.basis.abs().sum() > 0
    assert not first.rest.any() and second.rest[0].abs() > 0.1  # closed mouths lie off the middle


def test_the_folder_is_an_engine(runs):
    engine = load_engine(str(runs / "audio2lips" / "model"), "cpu", {"adapt": "off"})
    assert engine.spec.drives == {"audio", "video"}


def test_examples_depend_on_their_number_only(clips):
    asked = (f"data.manifest={clips}", *CLIPS, *EDITOR)
    recipe, trainable = load_recipe("dub", "flashlips_editor_tiny", asked)
    one, other = trainable.build(recipe), trainable.build(recipe)
    one.build(), other.build()
    one.example(3)
    first, second = one.example(7), other.example(7)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
    assert any(not torch.equal(first[name], one.example(8)[name]) for name in first)
    assert first["pictures"].shape == (4, 144, 144, 4) and first["shapes"].shape == (4, 4)


def test_the_hole_is_seen_where_the_mouth_is(clips):
    asked = (f"data.manifest={clips}", *CLIPS, *EDITOR, "view={colour: 0.0, sharpness: 0.0, bend_px: 0.0, "
             "turn_deg: 0.0, scale: 0.0, shift_px: 0.0, own_bend_px: 0.0}")  # fmt: skip
    recipe, trainable = load_recipe("dub", "flashlips_editor_tiny", asked)
    objective = trainable.build(recipe)
    module = objective.build()
    example = objective.example(0)
    truth, hole, _ = module.reconstruct({name: tensor[None] for name, tensor in example.items()})
    assert truth.shape == (1, 3, 96, 96) and hole.shape == (1, 1, 96, 96)
    assert hole[0, 0, 45, 48] == pytest.approx(1, abs=0.02) and hole[0, 0, :20].max() < 0.02
    window = example["pictures"][0, 48:144, 24:120, :3].permute(2, 0, 1).float() / 127.5 - 1
    seen = truth[0] if torch.allclose(truth[0], window, atol=0.02) else truth[0].flip(-1)
    assert torch.allclose(seen, window, atol=0.02)  # mirrored or not, pixel for pixel


def test_clips_without_landmarks_are_an_input_error(clips, tmp_path):
    from dataclasses import replace

    write_manifest(tmp_path / MANIFEST_NAME, [replace(clip, landmarks="") for clip in read_manifest(clips)])
    recipe, trainable = load_recipe("dub", "flashlips_editor_tiny", (f"data.manifest={tmp_path}", *CLIPS))
    with pytest.raises(InputError, match="landmarks") as caught:
        trainable.build(recipe)
    assert caught.value.exit_code == 3


def test_references_keep_their_distance(clips):
    recipe, trainable = load_recipe(
        "dub", "flashlips_editor_tiny", (f"data.manifest={clips}", *CLIPS, *EDITOR)
    )
    objective = trainable.build(recipe)
    shapes = np.random.default_rng(0).normal(size=(30, 4))
    for seed in range(20):
        chosen = objective._references(np.random.default_rng(seed), 12, shapes)
        assert len(set(chosen)) == 3 and min(abs(n - 12) for n in chosen) > 5

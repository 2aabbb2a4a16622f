"""flashlips-tiny as it ships: its size, and that it puts back and drives the mouth of somebody it never saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lipsync_cli.core.progress import SILENT
from lipsync_cli.core.shipped import shipped_folder
from lipsync_cli.hub.model_folder import load_model_folder
from lipsync_cli.networks.flashlips.mesh_lips import rest_of
from lipsync_cli.networks.flashlips.tiny import NETWORK, load_tiny
from lipsync_cli.networks.flashlips.warp_adapt import AdaptConfig, adapt
from lipsync_cli.networks.flashlips.warp_editor import shrink
from lipsync_cli.tasks.engines import load_engine
from lipsync_cli.tasks.evaluate_dub import (
    EvaluateDubRequest,
    Performance,
    cut_crops,
    read_performances,
    score_mouths,
    sound_drive,
)

GRID = Path(__file__).parents[4] / "shared" / "clips" / "grid" / "s3"
SHIPPED = shipped_folder("models") / "flashlips-tiny"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Performance:
    films = sorted(GRID.glob("*.mp4"))
    if not films:
        pytest.skip(f"{GRID}: no clips here")
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("films") / "s3"
    folder.mkdir()
    (folder / films[0].name).symlink_to(films[0])
    return read_performances(EvaluateDubRequest(clips=folder.parent), SILENT)[0][0]


def test_it_is_small_and_says_what_it_is():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 30e6
    network = load_tiny(load_model_folder("flashlips-tiny", network=NETWORK))
    assert network.config.lips.numbers == network.config.editor.lips_numbers == 12
    assert load_engine("flashlips-tiny", "cpu", {"adapt": "off"}).spec.drives == {"audio", "video"}


@pytest.mark.real
def test_mouths_are_put_back_without_fitting(clip):
    scores = score_mouths(load_engine("flashlips-tiny", "cpu", {"adapt": "off"}), clip)
    assert scores.psnr_db > 28 and scores.lpips < 0.1 and scores.outside_difference == 0


@pytest.mark.real
def test_fitting_lowers_the_loss(clip):
    engine = load_engine("flashlips-tiny", "cpu", {"adapt": "off"})
    face = engine._face(cut_crops(engine, clip, np.arange(0, 75, 2)))  # type: ignore[attr-defined]
    face = replace(face, images=shrink(face.images, 96), holes=shrink(face.holes, 96))

    def loss(truth, holes, drawn):
        return ((drawn.picture - truth).abs() * holes).sum() / holes.sum()

    losses = []
    for lr in (0.0, AdaptConfig.lr):  # the same frames are drawn in both
        editor = load_tiny(load_model_folder("flashlips-tiny")).editor
        losses.append(adapt(editor, face, loss, AdaptConfig(steps=12, batch=2, lr=lr), 0, lambda *_: None))
    assert losses[0][0] == losses[1][0] and np.mean(losses[1][-4:]) < 0.98 * np.mean(losses[0][-4:])


@pytest.mark.real
def test_the_mouth_opens_with_the_voice_and_rests_without(clip):
    engine = load_engine("flashlips-tiny", "cpu", {"adapt": "off"})
    count = len(clip.pictures)
    crops = cut_crops(engine, clip, np.arange(count))
    silent = np.zeros(16_000, np.float32)
    samples = np.concatenate([clip.samples, silent])
    drive = sound_drive(samples, count + 25)
    engine.prepare(crops, drive, 0, lambda *_: None)
    told = engine._track.lips[:, 0]  # type: ignore[attr-defined]
    seen = engine._network.read_lips(engine._pictures(crops.images), crops.landmarks).detach().numpy()  # type: ignore[attr-defined]
    assert np.corrcoef(told[:count], seen[:, 0])[0, 1] > 0.5
    np.testing.assert_allclose(told[-15:], rest_of(seen, crops.landmarks)[0], atol=1e-4)

"""recipes/read/*.yaml: what a lip reader is trained on, and the objective built from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from lipsync_cli.core.device import resolve_device
from lipsync_cli.core.errors import UsageError
from lipsync_cli.data.manifest import Clip, ClipChoice, choose_clips, read_manifest
from lipsync_cli.hub.checksums import sha256_of
from lipsync_cli.hub.model_folder import load_model_folder, read_weights
from lipsync_cli.media.frames import read_frames
from lipsync_cli.metrics.text import normalise_text
from lipsync_cli.networks.synclipmae.embed import SyncLipMAEEmbedder
from lipsync_cli.networks.synclipmae.weights import load_model
from lipsync_cli.networks.vsr.grammar import GRID_WORDS, Grammar
from lipsync_cli.networks.vsr.mouths import FaceView, cut_mouths
from lipsync_cli.networks.vsr.objective import LipReadingConfig, LipReadingObjective, Sentence
from lipsync_cli.networks.vsr.units import Units
from lipsync_cli.training.loop import LoopConfig


@dataclass(frozen=True)
class ReadData:
    """What is trained on; only clips with text, and of at most max_frames.

    manifest: of `lipsync prepare`.  train: which clips.  validate: sets by name, never trained on.
    face_px: side of the face square in the prepared pictures; the rest of them is margin.
    slack_px: how far the mouth is shifted at random, in pixels of the mouth window.
    cache_gb: decoded mouths kept in memory by each process.
    """

    manifest: str
    train: ClipChoice = ClipChoice()
    validate: dict[str, ClipChoice] = field(default_factory=dict)
    face_px: int = 128
    slack_px: int = 4
    max_frames: int = 400
    cache_gb: float = 2.0


@dataclass(frozen=True)
class ReadRecipe:
    """units: "characters", "grid" (its 51 words), or the path of a unit list, one name a line.

    tokens: SyncLipMAE model whose vocal tokens are read when model.model.reads is "tokens".  token_views: views
    of each clip, shifted, scaled, mirrored and lit at random, whose tokens are made before training.
    views: of a face, whose tokens are averaged in reading.
    start: a model folder whose weights are the first ones, or "".
    model.model.units and token_width are set from the unit list and the token model.
    """

    objective: str
    data: ReadData
    model: LipReadingConfig = field(default_factory=LipReadingConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    units: str = "characters"
    grammar: str = ""
    tokens: str = ""
    token_views: int = 4
    views: tuple[FaceView, ...] = (FaceView(),)
    start: str = ""
    average_checkpoints: int = 0
    licence: str = "Apache-2.0"


def build_objective(recipe: ReadRecipe) -> LipReadingObjective:
    """Raises: UsageError, InputError, WeightsError for what the recipe names and is not there."""
    data, config = recipe.data, recipe.model
    manifest = Path(data.manifest)
    folder = manifest if manifest.is_dir() else manifest.parent
    clips = [c for c in read_manifest(manifest) if c.text and c.num_frames <= data.max_frames]
    if not clips:
        raise UsageError(f"{manifest}: no clip has a text.", "lipsync prepare FOOTAGE OUT --text FILE")
    train = choose_clips(clips, data.train)
    held_out = {name: choose_clips(clips, choice) for name, choice in data.validate.items()}
    _refuse_overlap(train, held_out)
    units = _units(recipe.units)
    model = replace(config.model, units=len(units))
    start = None
    if recipe.start:
        start = read_weights(load_model_folder(Path(recipe.start), network="vsr").weights)
    preprocess: dict[str, Any] = {}
    sentences: Sequence[Sentence]
    validations: dict[str, Sequence[Sentence]]
    if model.reads == "tokens":
        tokens = _Tokens(recipe, folder)
        model = replace(model, token_width=tokens.width)
        preprocess = {
            "tokens": recipe.tokens,
            "tokens_sha256": tokens.sha256,
            "views": [asdict(view) for view in recipe.views],
        }
        sentences = tokens.sentences(train, recipe.token_views)
        validations = {name: tokens.sentences(chosen, 1) for name, chosen in held_out.items()}
    else:
        sentences = _Mouths(folder, train, recipe, data.slack_px)
        validations = {name: _Mouths(folder, chosen, recipe, 0) for name, chosen in held_out.items()}
    return LipReadingObjective(
        replace(config, model=model),
        units,
        sentences,
        validations,
        lengths=[clip.num_frames for clip in train],
        speakers=[clip.subject for clip in train],
        grammar=Grammar.grid(units) if recipe.grammar == "grid" else None,
        licence=recipe.licence,
        average_checkpoints=recipe.average_checkpoints,
        preprocess=preprocess,
        start=start,
        seed=recipe.loop.seed,
    )


def _refuse_overlap(train: list[Clip], held_out: dict[str, list[Clip]]) -> None:
    trained = {clip.key for clip in train}
    for name, clips in held_out.items():
        shared = sorted(trained & {clip.key for clip in clips})
        if shared:
            raise UsageError(
                f"validation set {name}: {len(shared)} clips are trained on too, such as {shared[0]}.",
                "leave them out of data.train",
            )


def _units(name: str) -> Units:
    if name == "characters":
        return Units.characters()
    if name == "grid":
        return Units.words(GRID_WORDS)
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"{path}: no such unit list.", "give characters, grid, or a file with one unit a line"
        )
    return Units.from_lines(path.read_text(encoding="utf-8").splitlines())


class _Mouths(Sequence[Sentence]):
    """Sentences of mouths, decoded when asked for and kept while there is room."""

    def __init__(self, folder: Path, clips: list[Clip], recipe: ReadRecipe, slack_px: int) -> None:
        self._folder, self._clips, self._slack_px = folder, clips, slack_px
        self._window, self._square_px = recipe.model.mouth, recipe.data.face_px
        self._room = recipe.data.cache_gb * 1e9
        self._kept: dict[int, torch.Tensor] = {}  # full is full: at random nothing is likelier to come again

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Sentence:  # pyright: ignore[reportIncompatibleMethodOverride]
        clip = self._clips[index]
        picture = self._kept.get(index)
        if picture is None:
            mouths = cut_mouths(
                _faces(self._folder / clip.picture),
                self._window,
                square_px=self._square_px,
                slack_px=self._slack_px,
            )
            picture = torch.from_numpy(mouths)
            if picture.nbytes <= self._room:
                self._kept[index] = picture
                self._room -= picture.nbytes
        return Sentence(picture, normalise_text(clip.text), clip.words)


class _Tokens:
    """Vocal tokens of clips, made once, in several views."""

    def __init__(self, recipe: ReadRecipe, folder: Path) -> None:
        if not recipe.tokens:
            raise UsageError("a reader of tokens needs a token model.", "set tokens: synclipmae-tiny")
        model = load_model_folder(recipe.tokens, network="synclipmae")
        network = load_model(model)
        self._embedder = SyncLipMAEEmbedder(network, resolve_device("auto"), {})
        self.width = network.config.encoder.width
        self.sha256 = sha256_of(model.weights)
        self._folder, self._square_px = folder, recipe.data.face_px
        self._seed = recipe.loop.seed

    def sentences(self, clips: list[Clip], views: int) -> list[Sentence]:
        return [self._sentence(clip, views, number) for number, clip in enumerate(clips)]

    def _sentence(self, clip: Clip, views: int, number: int) -> Sentence:
        random = np.random.default_rng((self._seed, number))
        faces = list(_faces(self._folder / clip.picture))
        tokens = [self._embed(faces, random if view else None) for view in range(views)]
        return Sentence(torch.from_numpy(np.stack(tokens)), normalise_text(clip.text), clip.words)

    def _embed(self, faces: list[np.ndarray], random: np.random.Generator | None) -> np.ndarray:
        """Tokens (T, D) float16 of faces as they are, or of a random view of them."""
        size = self._embedder.crop_px
        matrix, gain = _view(faces[0].shape[0], self._square_px, size, random)
        views = [
            cv2.convertScaleAbs(cv2.warpAffine(face, matrix, (size, size)), alpha=gain) for face in faces
        ]
        tokens = self._embedder.embed_pictures(views)
        return tokens - tokens.mean(0, dtype=np.float32).astype(np.float16)


def _view(
    side_px: int, square_px: int, size_px: int, random: np.random.Generator | None
) -> tuple[np.ndarray, float]:
    """An affine map from a prepared picture to an encoder's face square, (2, 3), and a gain of light."""
    scale, shift, mirror, gain = size_px / square_px, np.zeros(2), 1.0, 1.0
    if random is not None:
        scale *= random.uniform(0.95, 1.05)
        shift = random.uniform(-0.04, 0.04, 2) * size_px
        mirror, gain = random.choice([-1.0, 1.0]), random.uniform(0.8, 1.2)
    linear = np.diag([mirror * scale, scale])
    middle = np.full(2, (side_px - 1) / 2)
    moved = np.full(2, (size_px - 1) / 2) + shift - linear @ middle
    return np.column_stack([linear, moved]), gain


def _faces(path: Path) -> Iterator[np.ndarray]:
    frames = read_frames(path, threads=1)
    with closing(frames):  # pyright: ignore[reportArgumentType]
        for frame in frames:
            yield frame.image

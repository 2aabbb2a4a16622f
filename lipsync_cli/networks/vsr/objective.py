"""Training a lip reader in the one loop: examples, losses, validation by error rates, export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from lipsync_cli.core.progress import Progress
from lipsync_cli.hub.model_folder import write_model_folder
from lipsync_cli.metrics.text import character_errors, corpus_rate, word_errors
from lipsync_cli.networks.vsr.beam import BeamOptions, beam_search
from lipsync_cli.networks.vsr.crops import centre_crop, normalise, random_crop
from lipsync_cli.networks.vsr.grammar import Grammar
from lipsync_cli.networks.vsr.losses import NO_UNIT, LipReadingBatch, hybrid_loss, mask_time
from lipsync_cli.networks.vsr.model import LipReader, LipReaderConfig
from lipsync_cli.networks.vsr.units import Units
from lipsync_cli.training.objective import Batch


@dataclass(frozen=True)
class Sentence:
    """One clip of one sentence. picture: grey mouths (T, H, W) in 0…255, or tokens (T, D) float32; text: as
    the units can write it."""

    picture: torch.Tensor
    text: str


@dataclass(frozen=True)
class LipReadingConfig:
    """height_px, width_px: what the network sees of a mouth; larger pictures are cut, at random in training.

    frames, units: room in a batch; every clip must fit.  flip: share of clips mirrored in training.
    mask_frames, mask_every_frames: time masks, `losses.mask_time`; 0 frames: none.
    decode: how validation reads.
    """

    model: LipReaderConfig = field(default_factory=LipReaderConfig)
    height_px: int = 88
    width_px: int = 88
    frames: int = 400
    units: int = 150
    ctc_weight: float = 0.1
    label_smoothing: float = 0.1
    flip: float = 0.5
    mask_frames: int = 10
    mask_every_frames: int = 25
    decode: BeamOptions = field(default_factory=BeamOptions)


class LipReadingObjective:
    """Satisfies `training.objective.Objective`.

    train, held_out: sentences by index, such as a sequence that loads them when asked.
    grammar: what validation may read.  licence: of the exported weights.
    """

    def __init__(
        self,
        config: LipReadingConfig,
        units: Units,
        train: Sequence[Sentence],
        held_out: Sequence[Sentence],
        *,
        grammar: Grammar | None = None,
        licence: str = "",
        seed: int = 0,
    ) -> None:
        if config.model.units != len(units):
            raise ValueError(f"the model writes {config.model.units} units and the list holds {len(units)}")
        self.config, self.units, self.grammar = config, units, grammar
        self._train, self._held_out, self._licence, self._seed = train, held_out, licence, seed

    def build(self) -> nn.Module:
        return TrainedReader(LipReader(self.config.model), self.config)

    def example(self, index: int) -> Batch:
        """Every sentence once an epoch, in an order of the epoch's own."""
        epoch, place = divmod(index, len(self._train))
        shuffled = torch.randperm(len(self._train), generator=_generator(self._seed, epoch))
        sentence = self._train[int(shuffled[place])]
        generator = _generator(self._seed + 1, index)
        picture = self._prepare(sentence.picture, generator)
        units = torch.tensor(self.units.encode(sentence.text), dtype=torch.long)
        length = torch.tensor(len(picture))
        if self.config.mask_frames:
            window, stride = self.config.mask_frames, self.config.mask_every_frames
            picture = mask_time(picture[None], length[None], window, stride, generator)[0]
        return {
            "inputs": _fill(picture, self.config.frames, 0.0),
            "lengths": length,
            "targets": _fill(units, self.config.units, NO_UNIT),
            "target_lengths": torch.tensor(len(units)),
        }

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """`wer`, `cer` over all held-out sentences, `sentences`, the share read without a fault."""
        reader = _reader(module)
        words, characters = [], []
        with progress.stage("validate", len(self._held_out), "clips") as stage:
            for sentence in (self._held_out[i] for i in range(len(self._held_out))):
                inputs = self._prepare(sentence.picture, None)[None].to(device)
                memory, _ = reader.encode(inputs)
                best = beam_search(reader, memory[0], self.config.decode, self.grammar)[0]
                read = self.units.decode(best.units)
                words.append(word_errors(sentence.text, read))
                characters.append(character_errors(sentence.text, read))
                stage.advance()
        return {
            "wer": corpus_rate(words),
            "cer": corpus_rate(characters),
            "sentences": sum(w.errors == 0 for w in words) / len(words),
        }

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        write_model_folder(
            folder,
            network="vsr",
            config={**asdict(self.config.model), "unit_names": list(self.units.names), "metrics": metrics},
            preprocess={"height_px": self.config.height_px, "width_px": self.config.width_px, "rate_hz": 25},
            weights=_reader(module).state_dict(),
            licence=self._licence,
        )

    def _prepare(self, picture: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """A picture as the network takes it; with a generator, cut and mirrored at random."""
        if self.config.model.reads == "tokens":
            return picture
        size = self.config.height_px, self.config.width_px
        if generator is None:
            return normalise(centre_crop(picture, *size))
        cut = random_crop(picture, *size, generator)
        mirrored = torch.rand((), generator=generator) < self.config.flip
        return normalise(cut.flip(-1) if mirrored else cut)


class TrainedReader(nn.Module):
    """A batch of `LipReadingObjective.example`s → its losses."""

    def __init__(self, reader: LipReader, config: LipReadingConfig) -> None:
        super().__init__()
        self.reader = reader
        self._weights = config.ctc_weight, config.label_smoothing

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        return hybrid_loss(self.reader, LipReadingBatch(**batch), *self._weights)


def _reader(module: nn.Module) -> LipReader:
    assert isinstance(module, TrainedReader)
    return module.reader


def _generator(seed: int, number: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 1_000_003 + number)


def _fill(values: torch.Tensor, length: int, padding: float) -> torch.Tensor:
    """Pad the first dimension. Raises: ValueError when there is more than fits."""
    if len(values) > length:
        raise ValueError(f"{len(values)} frames or units do not fit into a batch's {length}")
    filled = values.new_full((length, *values.shape[1:]), padding)
    filled[: len(values)] = values
    return filled

"""Training a lip reader in the one loop: examples, losses, validation by error rates, export."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lipsync_cli.core.errors import UsageError
from lipsync_cli.core.progress import SILENT, Progress, Stage
from lipsync_cli.hub.model_folder import read_weights, write_model_folder
from lipsync_cli.metrics.text import character_errors, corpus_rate, word_errors
from lipsync_cli.networks.blocks.weights import load_strictly
from lipsync_cli.networks.vsr.beam import BeamOptions, beam_search
from lipsync_cli.networks.vsr.crops import centre_crop, normalise, random_crop
from lipsync_cli.networks.vsr.grammar import Grammar
from lipsync_cli.networks.vsr.losses import NO_UNIT, LipReadingBatch, hybrid_loss, mask_time
from lipsync_cli.networks.vsr.model import BLANK, LipReader, LipReaderConfig
from lipsync_cli.networks.vsr.mouths import MouthWindow
from lipsync_cli.networks.vsr.packs import pack_by_frames
from lipsync_cli.networks.vsr.units import Units
from lipsync_cli.training.checkpoints import list_checkpoints
from lipsync_cli.training.objective import Batch


@dataclass(frozen=True)
class Sentence:
    """One clip of one sentence. picture: grey mouths (T, H, W) in 0…255, or several views of its tokens,
    (views, T, D); text: as the units can write it; words: (word, start s, end s), empty where unknown."""

    picture: torch.Tensor
    text: str
    words: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class LipReadingConfig:
    """mouth: what the network sees of a face; larger pictures are cut to it, at random in training.

    frames, units: room in a batch; every clip must fit.  frames_per_example: 0, or a budget: an example is then
    all the clips of about one length that fit into it.
    cut_frames: 0, or: training sees that many frames of a clip, with all its words, where their times are known.
    ctc_weight: λ.  timing_weight: of `losses.timing_loss`.
    flip: share of clips mirrored in training.  light: largest change of gain in training, and of offset in halves
    of the range of grey.
    splice: share of clips that in training go on, from some word, with those of another clip of the same speaker.
    mask_frames, mask_every_frames: time masks, `losses.mask_time`; 0 frames: none.
    decode: how validation reads.
    """

    model: LipReaderConfig = field(default_factory=LipReaderConfig)
    mouth: MouthWindow = field(default_factory=MouthWindow)
    frames: int = 400
    units: int = 150
    frames_per_example: int = 0
    cut_frames: int = 0
    ctc_weight: float = 0.1
    label_smoothing: float = 0.1
    timing_weight: float = 0.0
    flip: float = 0.5
    light: float = 0.0
    splice: float = 0.0
    mask_frames: int = 10
    mask_every_frames: int = 25
    decode: BeamOptions = field(default_factory=BeamOptions)


class LipReadingObjective:
    """Satisfies `training.objective.Objective`.

    train: sentences by index, such as a sequence that loads them when asked.
    lengths: frames of each training sentence, needed when there is a budget of frames.
    speakers: who says each training sentence, needed to splice.
    validations: sets of held-out sentences by name; metrics of the first one bear no prefix.
    grammar: what validation may read besides everything.  licence: of the exported weights.
    average_checkpoints: export the mean of the run's last n checkpoints instead of the last step; 0: the last step.
    preprocess: stored with the exported weights.
    """

    def __init__(
        self,
        config: LipReadingConfig,
        units: Units,
        train: Sequence[Sentence],
        validations: Mapping[str, Sequence[Sentence]],
        *,
        lengths: Sequence[int] = (),
        speakers: Sequence[str] = (),
        grammar: Grammar | None = None,
        licence: str = "",
        average_checkpoints: int = 0,
        preprocess: Mapping[str, Any] | None = None,
        start: Mapping[str, torch.Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        if config.model.units != len(units):
            raise ValueError(f"the model writes {config.model.units} units and the list holds {len(units)}")
        self.config, self.units, self.grammar = config, units, grammar
        self._train, self._validations, self._licence, self._seed = train, validations, licence, seed
        self._average, self._preprocess, self._start = average_checkpoints, dict(preprocess or {}), start
        self._speakers = speakers
        self._said_by = {
            name: [i for i, other in enumerate(speakers) if other == name] for name in set(speakers)
        }
        budget = config.frames_per_example
        self._packs = pack_by_frames(lengths, budget) if budget else [(clip,) for clip in range(len(train))]

    def build(self) -> nn.Module:
        reader = LipReader(self.config.model)
        if self._start is not None:
            load_strictly(reader, self._start, "the weights to start from")
        return TrainedReader(reader, self.config)

    def example(self, index: int) -> Batch:
        """Every sentence once an epoch, in an order of the epoch's own; with a budget of frames, a pack of them."""
        epoch, place = divmod(index, len(self._packs))
        shuffled = torch.randperm(len(self._packs), generator=_generator(self._seed, epoch))
        pack = self._packs[int(shuffled[place])]
        generator = _generator(self._seed + 1, index)
        if not self.config.frames_per_example:
            return self._clip(self._spliced(pack[0], generator), self.config.frames, generator)
        sentences = [self._spliced(clip, generator) for clip in pack]
        longest = max(sentence.picture.shape[-3 if self._reads_video else -2] for sentence in sentences)
        clips = [self._clip(sentence, longest, generator) for sentence in sentences]
        return {name: torch.stack([clip[name] for clip in clips]) for name in clips[0]}

    def _spliced(self, clip: int, generator: torch.Generator) -> Sentence:
        sentence = self._train[clip]
        if not self.config.splice or torch.rand((), generator=generator) >= self.config.splice:
            return sentence
        others = self._said_by[self._speakers[clip]]
        other = self._train[others[int(torch.randint(len(others), (), generator=generator))]]
        return splice(sentence, other, self.config.frames, generator)

    @property
    def _reads_video(self) -> bool:
        return self.config.model.reads == "video"

    def _clip(self, sentence: Sentence, frames: int, generator: torch.Generator) -> Batch:
        """One clip, cut, masked and padded to `frames`."""
        picture = self._prepare(sentence.picture, generator)
        first, last = cut_times(sentence, len(picture), self.config.cut_frames, generator)
        picture = picture[first:last]
        units = torch.tensor(self.units.encode(sentence.text), dtype=torch.long)
        length = torch.tensor(len(picture))
        if self.config.mask_frames:
            window, stride = self.config.mask_frames, self.config.mask_every_frames
            picture = mask_time(picture[None], length[None], window, stride, generator)[0]
        clip = {
            "inputs": _fill(picture, frames, 0.0),
            "lengths": length,
            "targets": _fill(units, self.config.units, NO_UNIT),
            "target_lengths": torch.tensor(len(units)),
        }
        if self.config.timing_weight:
            said = said_units(sentence, self.units, last)[first:]
            clip["said"] = _fill(said, frames, NO_UNIT)
        return clip

    def validate(self, module: nn.Module, device: torch.device, progress: Progress) -> dict[str, float]:
        """`wer`, `cer` of each validation set, `sentences`, the share read without a fault, and `grammar_wer`."""
        metrics: dict[str, float] = {}
        for number, (name, sentences) in enumerate(self._validations.items()):
            with progress.stage(f"validate {name}", len(sentences), "clips") as stage:
                found = self._error_rates(_reader(module), sentences, device, stage)
            metrics |= {f"{name}_{key}" if number else key: value for key, value in found.items()}
        return metrics

    def _error_rates(
        self, reader: LipReader, sentences: Sequence[Sentence], device: torch.device, stage: Stage
    ) -> dict[str, float]:
        words, characters, guided = [], [], []
        for sentence in (sentences[i] for i in range(len(sentences))):
            inputs = self._prepare(sentence.picture, None)[None].to(device)
            memory, _ = reader.encode(inputs)
            best = beam_search(reader, memory[0], self.config.decode)[0]
            read = self.units.decode(best.units)
            words.append(word_errors(sentence.text, read))
            characters.append(character_errors(sentence.text, read))
            if self.grammar:
                best = beam_search(reader, memory[0], self.config.decode, self.grammar)[0]
                guided.append(word_errors(sentence.text, self.units.decode(best.units)))
            stage.advance()
        rates = {
            "wer": corpus_rate(words),
            "cer": corpus_rate(characters),
            "sentences": sum(w.errors == 0 for w in words) / len(words),
        }
        return rates | ({"grammar_wer": corpus_rate(guided)} if guided else {})

    def export(self, module: nn.Module, folder: Path, metrics: dict[str, float]) -> None:
        reader = _reader(module)
        if self._average:
            averaged = average_states(list_checkpoints(folder.parent)[-self._average :])
            load_strictly(reader, averaged, folder.parent)
            device = next(reader.parameters()).device
            metrics = self.validate(module.eval(), device, SILENT)
        write_model_folder(
            folder,
            network="vsr",
            config={**asdict(self.config.model), "unit_names": list(self.units.names), "metrics": metrics},
            preprocess={
                "mouth": asdict(self.config.mouth),
                "rate_hz": 25,
                "window_frames": self.config.frames,
                "decode": asdict(self.config.decode),
                **self._preprocess,
            },
            weights=reader.state_dict(),
            licence=self._licence,
        )

    def _prepare(self, picture: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        """A picture as the network takes it; with a generator, a view at random."""
        if not self._reads_video:
            view = int(torch.randint(len(picture), (), generator=generator)) if generator else 0
            return picture[view].float()
        size = self.config.mouth.height_px, self.config.mouth.width_px
        if generator is None:
            return normalise(centre_crop(picture, *size))
        cut = random_crop(picture, *size, generator).float()
        if torch.rand((), generator=generator) < self.config.flip:
            cut = cut.flip(-1)
        if self.config.light:
            gain, offset = (2 * torch.rand(2, generator=generator) - 1) * self.config.light
            cut = cut * (1 + gain) + 64 * offset
        return normalise(cut)


def splice(first: Sentence, second: Sentence, frames: int, generator: torch.Generator) -> Sentence:
    """The first words of one sentence and the last ones of another, cut at the start of a random word.

    What comes next can then not be told from what came before: few sentences otherwise teach a reader to guess
    words from their neighbours. Only where times are known and both have as many words. The result has at most
    `frames` frames.
    """
    count = len(first.words)
    if count < 2 or len(second.words) != count:
        return first
    word = 1 + int(torch.randint(count - 1, (), generator=generator))
    until, since = (max(round(one.words[word][1] * 25), 0) for one in (first, second))
    shift_s = (until - since) / 25
    moved = tuple((name, start_s + shift_s, end_s + shift_s) for name, start_s, end_s in second.words[word:])
    time = -2 if first.picture.is_floating_point() else 0  # tokens (views, T, D), mouths (T, H, W)
    before = first.picture.narrow(time, 0, min(until, first.picture.shape[time]))
    left = min(second.picture.shape[time] - since, frames - before.shape[time])
    if left < 1 or moved[-1][2] * 25 > before.shape[time] + left:
        return first
    picture = torch.cat([before, second.picture.narrow(time, since, left)], dim=time)
    words = (*first.words[:word], *moved)
    return Sentence(picture, " ".join(name for name, _, _ in words), words)


def cut_times(
    sentence: Sentence, frames: int, cut_frames: int, generator: torch.Generator
) -> tuple[int, int]:
    """First frame, and the one after the last, of a random cut that holds every word; the whole clip when none can."""
    if not cut_frames or not sentence.words or frames <= cut_frames:
        return 0, frames
    begin = max(math.floor(sentence.words[0][1] * 25), 0)
    end = min(math.ceil(sentence.words[-1][2] * 25), frames)
    earliest, latest = max(0, end - cut_frames), min(begin, frames - cut_frames)
    if earliest > latest:
        return 0, frames
    first = earliest + int(torch.randint(latest - earliest + 1, (), generator=generator))
    return first, first + cut_frames


def said_units(sentence: Sentence, units: Units, frames: int) -> torch.Tensor:
    """The unit said in each of `frames` frames, BLANK between words; NO_UNIT throughout where times are unknown.

    Raises: UsageError when a timed word is not one unit.
    """
    said = torch.full((frames,), BLANK if sentence.words else NO_UNIT, dtype=torch.long)
    for word, start_s, end_s in sentence.words:
        written = units.encode(word)
        if len(written) != 1:
            raise UsageError(
                f'timing_weight needs units that are words; "{word}" is {len(written)}.', "set units: words"
            )
        first = min(max(round(start_s * 25), 0), frames - 1)
        said[first : max(first + 1, round(end_s * 25))] = written[0]
    return said


def average_states(checkpoints: Sequence[Path]) -> dict[str, torch.Tensor]:
    """The mean of a reader's weights over checkpoints of one run (Auto-AVSR: the last ten)."""
    states = [read_weights(checkpoint / "model.safetensors") for checkpoint in checkpoints]
    mean = {name: torch.stack([s[name].double() for s in states]).mean(0) for name in states[0]}
    return {name.removeprefix("reader."): tensor.to(states[-1][name].dtype) for name, tensor in mean.items()}


class TrainedReader(nn.Module):
    """A batch of `LipReadingObjective.example`s → its losses."""

    def __init__(self, reader: LipReader, config: LipReadingConfig) -> None:
        super().__init__()
        self.reader = reader
        self._weights = config.ctc_weight, config.label_smoothing, config.timing_weight
        self._packed = config.frames_per_example > 0

    def forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        if self._packed:  # an example is several clips already
            batch = {name: tensor.flatten(0, 1) for name, tensor in batch.items()}
        frames, units = int(batch["lengths"].max()), int(batch["target_lengths"].max())
        room = {"inputs": frames, "said": frames, "targets": units}  # nothing is computed for what only pads
        batch = batch | {name: batch[name][:, :size] for name, size in room.items() if name in batch}
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

"""`lipsync read`: what silent faces say, with word times and confidences. This file: the network, and one clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from lipsync_cli.core.device import resolve_device, share_processor
from lipsync_cli.core.errors import InconclusiveError, InputError, LipsyncError
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.faces.follow import FaceSource
from lipsync_cli.networks.vsr.align import forced_align, word_spans
from lipsync_cli.networks.vsr.beam import (
    BeamOptions,
    Hypothesis,
    LanguageModel,
    beam_search,
    word_confidences,
)
from lipsync_cli.networks.vsr.causal import load_causal
from lipsync_cli.networks.vsr.crops import normalise
from lipsync_cli.networks.vsr.ctc import greedy
from lipsync_cli.networks.vsr.grammar import Grammar
from lipsync_cli.networks.vsr.language import NgramModel
from lipsync_cli.networks.vsr.units import Units
from lipsync_cli.networks.vsr.weights import LoadedReader, find_reader, load_reader
from lipsync_cli.tasks.faces import face_models
from lipsync_cli.tasks.read_mouths import FOLLOWED_PX, FRAME_RATE, ClipEnd, MouthSource, Piece, mouth_pieces
from lipsync_cli.tasks.read_text import Reading, ReadResult, Sentence, Word, gather_speakers

DEFAULT_MODEL = "vsr-grid-tiny"
BEAM_IN_SLOTS = (
    300  # where a grammar says which word comes when: few units to try, so a wide search costs little
)
BUDGET_FRAMES = {"cpu": 600, "cuda": 4800, "mps": 1200}  # of one call of the encoder


@dataclass(frozen=True)
class ReadOptions:
    """How to read.

    model: name, hf:… or folder.  grammar: "", "grid", or a file with a word a line that alone may be read.
    language: "", or what leans the search by language_weight: a file with a sentence a line, or a transformers
    causal model, a folder or hf:org/repo@commit.
    beam: hypotheses kept, None for the model's own, or BEAM_IN_SLOTS; 0 takes the likeliest unit of every frame
    (greedy CTC: fast, no second best).
    best: sentences given of each piece.  ctc_weight: None for the model's own.
    """

    model: str = DEFAULT_MODEL
    device: str = "auto"
    grammar: str = ""
    language: str = ""
    language_weight: float = 0.3
    beam: int | None = None
    best: int = 1
    ctc_weight: float | None = None


class LipReading:
    """A lip reader, loaded, with everything that says how it reads."""

    def __init__(self, options: ReadOptions, faces: FaceSource | None = None) -> None:
        """faces: what finds faces, the embedded networks by default.

        Raises: WeightsError, ResourceError for the device, InputError for word lists and sentences.
        """
        self.device = resolve_device(options.device)
        if self.device.type == "cpu":
            share_processor()
        self.options = options
        self.loaded: LoadedReader = load_reader(find_reader(options.model), self.device)
        self.units = self.loaded.units
        self.grammar = _grammar(options.grammar, self.units)
        self._language = _language(options.language, self.units, self.device)
        self._beam = _beam(options, self.loaded, self.grammar, bool(self._language))
        self.source = _mouth_source(self.loaded, faces or face_models())
        self.budget_frames = BUDGET_FRAMES[self.device.type]

    @torch.inference_mode()
    def read(self, pieces: Sequence[Piece]) -> list[Reading]:
        """What each piece says; all go through the encoder in one batch."""
        inputs = [self._input(piece) for piece in pieces]
        lengths = torch.tensor([len(one) for one in inputs])
        padded = torch.nn.utils.rnn.pad_sequence(inputs, batch_first=True).to(self.device)
        memory, _ = self.loaded.reader.encode(padded, lengths.to(self.device))
        log_probs = self.loaded.reader.ctc(memory)
        return [
            self._reading(piece, memory[row, : len(one)], log_probs[row, : len(one)])
            for row, (piece, one) in enumerate(zip(pieces, inputs, strict=True))
        ]

    def _input(self, piece: Piece) -> torch.Tensor:
        if self.loaded.embedder is None:
            return normalise(torch.from_numpy(piece.pictures))
        views = [self.loaded.embedder.embed_pictures(view.of(piece.pictures)) for view in self.loaded.views]
        tokens = torch.from_numpy(np.stack(views)).float().mean(0)
        return tokens - tokens.mean(0)  # as in training: what never changes says nothing

    def _reading(self, piece: Piece, memory: torch.Tensor, log_probs: torch.Tensor) -> Reading:
        found = self._search(memory, log_probs)
        words = self._words(piece, found[0], log_probs) if found else ()
        start_s = piece.first / float(FRAME_RATE)
        return Reading(
            piece.face,
            piece.shot,
            start_s,
            start_s + len(piece.pictures) / float(FRAME_RATE),
            piece.overlap_frames / float(FRAME_RATE),
            words,
            tuple(Sentence(self.units.decode(one.units), one.score) for one in found),
        )

    def _search(self, memory: torch.Tensor, log_probs: torch.Tensor) -> list[Hypothesis]:
        if self._beam is None:
            (units,) = greedy(log_probs[None], torch.tensor([len(log_probs)]))
            _, score = forced_align(log_probs, units)
            best = log_probs.max(dim=-1)
            chosen = [float(best.values[best.indices == unit].max()) for unit in units]
            return [Hypothesis(tuple(units), score, tuple(chosen))]
        try:
            return beam_search(self.loaded.reader, memory, self._beam, self.grammar, self._language)
        except InconclusiveError:  # too few frames for any sentence of the grammar: nothing is read of them
            return []

    def _words(self, piece: Piece, best: Hypothesis, log_probs: torch.Tensor) -> tuple[Word, ...]:
        if not best.units:
            return ()
        try:
            spans, _ = forced_align(log_probs, best.units)
        except (
            InconclusiveError
        ):  # only without CTC in the search: it then may write more than it has frames for
            return ()
        texts = self.units.decode(best.units).split()
        times = word_spans(self.units, best.units, spans)
        sure = word_confidences(self.units, best)
        rate = float(FRAME_RATE)
        return tuple(
            Word(
                text,
                (piece.first + span.start_frame) / rate,
                (piece.first + span.end_frame) / rate,
                confidence,
            )
            for text, span, confidence in zip(texts, times, sure, strict=True)
        )


def read_clip(clip: Path, reading: LipReading, progress: Progress = SILENT) -> ReadResult:
    """What the faces of one clip say.  Raises: InputError when the clip cannot be decoded."""
    readings: list[Reading] = []
    waiting: list[Piece] = []
    end, moving = ClipEnd(0.0, 0.0, 0), 0
    with progress.stage(f"read {clip.name}", None, "pieces") as stage:
        for piece in mouth_pieces(clip, reading.source):
            if isinstance(piece, ClipEnd):
                end = piece
                break
            if piece.speaks:
                moving += 1
                waiting.append(piece)
                if frames_of(waiting) >= reading.budget_frames:
                    readings += reading.read(waiting)
                    stage.advance(len(waiting))
                    waiting = []
    if waiting:
        readings += reading.read(waiting)
    return make_result(clip, readings, end)


def frames_of(pieces: Sequence[Piece]) -> int:
    """How many frames a batch of these holds, padding included."""
    return len(pieces) * max((len(piece.pictures) for piece in pieces), default=0)


def make_result(clip: Path, readings: Sequence[Reading], end: ClipEnd) -> ReadResult:
    """The answer for a clip, from what its pieces say."""
    result = ReadResult(clip, "ok", start_s=end.start_s, duration_s=end.duration_s)
    speakers = gather_speakers(readings)
    if speakers:
        return replace(result, speakers=speakers, text=" ".join(speaker.text for speaker in speakers))
    if not end.seen_frames:
        error: LipsyncError = InputError(f"{clip}: no face to read.", "give a clip that shows a face")
        return replace(failed(clip, error), status="no_face", start_s=end.start_s, duration_s=end.duration_s)
    why = "no mouth moves as if it spoke" if not readings else "no words can be read"
    if end.seen_frames < 10:
        why = f"a face is seen for only {end.seen_frames} frames, too few to read"
    error = InconclusiveError(
        f"{clip}: {why}.", "give a clip in which a face speaks, for half a second or more"
    )
    return replace(failed(clip, error), status="no_motion", start_s=end.start_s, duration_s=end.duration_s)


def failed(clip: Path, error: LipsyncError) -> ReadResult:
    """The result of a clip that could not be read."""
    return ReadResult(clip, "error", exit_code=error.exit_code, message=error.message, hint=error.hint)


def _grammar(name: str, units: Units) -> Grammar | None:
    if not name:
        return None
    if name == "grid":
        return Grammar.grid(units)
    return Grammar.words(units, (units.fold(line) for line in _lines(name, "word list")))


def _language(name: str, units: Units, device: torch.device) -> LanguageModel | None:
    if not name:
        return None
    if name.startswith("hf:") or Path(name).is_dir():
        return load_causal(name, units, device)
    sentences = [units.encode(units.fold(line)) for line in _lines(name, "list of sentences") if line.strip()]
    if not sentences:
        raise InputError(f"{name}: there is no sentence in the file.", "put one sentence on each line")
    return NgramModel(sentences, len(units))


def _lines(name: str, what: str) -> list[str]:
    try:
        return Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: the {what} cannot be read.", f"ls -l '{name}'") from error


def _beam(
    options: ReadOptions, loaded: LoadedReader, grammar: Grammar | None, language: bool
) -> BeamOptions | None:
    if options.beam == 0:
        return None
    beam = BEAM_IN_SLOTS if grammar and not grammar.repeats else loaded.decode.beam
    return replace(
        loaded.decode,
        beam=max(beam if options.beam is None else options.beam, options.best),
        best=options.best,
        ctc_weight=loaded.decode.ctc_weight if options.ctc_weight is None else options.ctc_weight,
        language_weight=options.language_weight if language else 0.0,
    )


def _mouth_source(loaded: LoadedReader, faces: FaceSource) -> MouthSource:
    if loaded.embedder is not None:
        return MouthSource(faces, None, loaded.embedder.crop_px, loaded.window_frames)
    square_px = max(FOLLOWED_PX, loaded.window.face_px)
    return MouthSource(faces, loaded.window, square_px, loaded.window_frames)

"""A copy of a file with its sound moved and everything else as it was.

Picture packets, subtitles, attachments, timecode, chapters, metadata, languages and dispositions are copied.
Sound is either copied with other timestamps (`edit`) or decoded, moved by whole samples and encoded to its
own codec (`samples` for codecs without loss, `reencode-audio` for the others).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from av.container import InputContainer, OutputContainer

from lipsync_cli.core.container import decode, open_container
from lipsync_cli.core.progress import SILENT, Progress
from lipsync_cli.core.sound import read_sound
from lipsync_cli.media.carry import Job, Maker, describe, write_anew
from lipsync_cli.media.encode_sound import encoded_sound, is_lossless
from lipsync_cli.media.retime import change_tempo, shift_samples

Mode = Literal["samples", "edit", "reencode-audio"]
_MADE_BIT_RATE = 192_000  # where the source does not say


@dataclass(frozen=True)
class Correction:
    """What to do to the sound.

    delay: seconds, > 0 moves the sound later.  tracks: numbers of the sound tracks, from 0; None = all.
    tempo: > 1 plays the sound faster, about `origin` (seconds on the container's timeline); not with `edit`.
    """

    delay: Fraction
    mode: Mode
    tracks: tuple[int, ...] | None = None
    tempo: Fraction = Fraction(1)
    origin: Fraction = Fraction(0)

    def moves(self, track: int) -> bool:
        return self.tracks is None or track in self.tracks


def write_corrected(
    source: Path, target: Path, correction: Correction, progress: Progress = SILENT
) -> tuple[str, ...]:
    """Write `source` with its sound corrected to `target`, in the container that the suffix of `target`
    names.

    Raises: InputError when the source cannot be read or the container cannot hold its streams, ResourceError
    when the disk is full. A failed `target` is left half-written: give a temporary name.
    """
    with ExitStack() as stack:

        def maker(stream: Any) -> Maker | None:
            track = _track(stream)
            if track < 0 or not correction.moves(track) or correction.mode == "edit":
                return None
            own = stack.enter_context(open_container(source))
            return lambda out, stream: _made_sound(own, out, stream, source, correction)

        def delay(stream: Any) -> Fraction:
            track = _track(stream)
            return correction.delay if track >= 0 and correction.moves(track) else Fraction(0)

        return write_anew(source, target, maker, delay=delay, progress=progress)


def _track(stream: Any) -> int:
    """The number of a sound track, from 0; -1 for what is none."""
    return stream.container.streams.audio.index(stream) if stream.type == "audio" else -1


def _made_sound(
    own: InputContainer, out: OutputContainer, stream: Any, source: Path, correction: Correction
) -> Job:
    context = stream.codec_context
    encoder = context.codec.canonical_name if not is_lossless(context.name) else context.name
    options = {"strict": "experimental"}
    if context.name == "flac" and context.extradata:  # else 24 bits become 32, which few players take
        options["bits_per_raw_sample"] = str(_flac_bits(context.extradata))
    made = out.add_stream(encoder, rate=context.sample_rate, layout=context.layout.name, options=options)
    describe(made, stream)
    target = made.codec_context
    if is_lossless(context.name):
        target.format = context.format
    else:
        target.bit_rate = context.bit_rate or _MADE_BIT_RATE
    blocks = read_sound(decode(own, own.streams[stream.index], source), source)
    if correction.tempo != 1:
        blocks = change_tempo(blocks, correction.tempo, correction.origin)
    blocks = shift_samples(blocks, round(correction.delay * context.sample_rate))
    return encoded_sound(made, blocks, context.layout.name)


def _flac_bits(stream_info: bytes) -> int:
    """Bits of a sample, by RFC 9639, section 8.2."""
    return (int.from_bytes(stream_info[10:14], "big") >> 4 & 31) + 1

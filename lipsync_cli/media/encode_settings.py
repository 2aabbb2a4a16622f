"""How the picture of a result is written: as the source's, where nothing else was asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from lipsync_cli.core.container import decode, open_container
from lipsync_cli.core.errors import UsageError
from lipsync_cli.media.codecs import DNXHD_MBPS, VIDEO_CODECS, VideoCodec, follow_codec, is_dnxhd
from lipsync_cli.media.colour import ColourTags, colour_tags, converted_tags, display_matrix, dynamic_metadata
from lipsync_cli.media.pixel_formats import bits_of, chroma_step, is_whole, loses, nearest_format
from lipsync_cli.media.probe import MediaInfo, require_video

_GOP_S = 2
_SUFFIXES = (".mov", ".mp4", ".mkv", ".mxf")
_UNLISTED = {  # containers for which FFmpeg keeps no list
    "mpegts": frozenset(("h264", "hevc", "mpeg2video", "aac", "mp2", "mp3", "ac3", "eac3", "opus")),
    "mxf": frozenset(
        ("prores", "dnxhd", "pcm_s16le", "pcm_s24le")
    ),  # H.264 only with headers in every picture
}
_MISPLACED = {
    "avi": frozenset(("h264", "hevc", "vp9", "av1"))
}  # AVI has no times: H.264 is read a picture late
_SHAPELESS = (".mkv", ".webm")  # PyAV hands these containers no shape of pixels
_INTERLACED = ("h264", "prores", "dnxhd")


@dataclass(frozen=True)
class EncodeSettings:
    """All that decides how pictures are written.

    codec: a key of `VIDEO_CODECS`.  encoder, options: of FFmpeg.  width, height: as stored, before rotation.
    time_base: of the source's picture, so that its times are whole ticks.  display_matrix: nine numbers as the
    container has them, () for none.  sample_aspect: width over height of a pixel, 0 = not said.
    notes: one sentence for each thing that will not be as in the source.
    """

    codec: str
    encoder: str
    options: tuple[tuple[str, str], ...]
    pixel_format: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    bit_rate: int
    interlaced: bool
    sample_aspect: Fraction
    display_matrix: tuple[int, ...]
    colour: ColourTags
    notes: tuple[str, ...]

    @staticmethod
    def follow(
        info: MediaInfo,
        out: Path,
        *,
        video_codec: str | None = None,
        quality: int | None = None,
        pixel_format: str | None = None,
    ) -> EncodeSettings:
        """Settings like those of the picture of `info`, for a file named `out`.

        video_codec: a key of `VIDEO_CODECS`, None = as the source.  quality: constant rate factor, lower is better,
        None = no loss that is seen.  pixel_format: FFmpeg's name, None = as the source or the nearest that loses
        nothing.
        Raises: UsageError, naming the choices, for what cannot be written; InputError for a source without picture.
        """
        source = require_video(info)
        with open_container(info.path) as container:
            stream: Any = container.streams[source.index]
            stream.thread_type = "SLICE"
            picture = next(decode(container, stream, info.path))
            profile, time_base = stream.profile, Fraction(stream.time_base)
            bit_rate, aspect = stream.codec_context.bit_rate or 0, stream.sample_aspect_ratio
        can_hold = codecs_of_container(out)
        note = ""
        if video_codec is None:
            video_codec, note = follow_codec(source, profile, _is_full_chroma(picture), can_hold)
        codec = _chosen_codec(video_codec, out, can_hold)
        target_format = _chosen_format(video_codec, codec, picture, pixel_format)
        settings = EncodeSettings(
            codec=video_codec,
            encoder=codec.encoder,
            options=codec.options + _quality(video_codec, codec, quality),
            pixel_format=target_format,
            width=picture.width,
            height=picture.height,
            rate=source.rate,
            time_base=time_base,
            bit_rate=bit_rate,
            interlaced=picture.interlaced_frame,
            sample_aspect=Fraction(aspect or 0),
            display_matrix=display_matrix(picture),
            colour=converted_tags(colour_tags(picture), picture.format.name, target_format),
            notes=(note,) if note else (),
        )
        settings = _with_dnxhd_rate(settings)
        settings = replace(
            settings, options=settings.options + _stream_options(settings, source.variable_rate)
        )
        _check_opens(settings, info.path)
        return replace(settings, notes=settings.notes + _losses(settings, picture, out))


def configure(context: Any, settings: EncodeSettings) -> None:
    """Give an encoder that is not open yet its size, format, clock, colours and pixel shape."""
    if settings.codec == "av1":
        os.environ.setdefault("SVT_LOG", "1")  # its library writes to the terminal by itself: errors only
    context.width, context.height, context.pix_fmt = settings.width, settings.height, settings.pixel_format
    context.framerate, context.time_base = settings.rate, settings.time_base
    if settings.bit_rate:
        context.bit_rate = settings.bit_rate
    tag(context, settings)


def tag(context: Any, settings: EncodeSettings) -> None:
    """Give a codec context the colours and the pixel shape of the source."""
    colour = settings.colour
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    context.colorspace, context.color_range = colour.matrix, colour.range
    if settings.sample_aspect:
        context.sample_aspect_ratio = settings.sample_aspect


def _check_opens(settings: EncodeSettings, source: Path) -> None:
    """Find out before any work is done that the encoder refuses such a picture."""
    context: Any = av.CodecContext.create(settings.encoder, "w")
    context.options = dict(settings.options)
    configure(context, settings)
    try:
        context.open()
    except FFmpegError as error:
        raise UsageError(
            f"{source}: {settings.codec} cannot hold a picture of {settings.width} x {settings.height}.",
            f"--video-codec {'|'.join(choice for choice in VIDEO_CODECS if choice != settings.codec)}",
        ) from error


def codecs_of_container(out: Path) -> frozenset[str]:
    """FFmpeg's names of the codecs that a file named `out` can hold. Raises: UsageError for an unknown suffix."""
    try:
        container = av.open(f"file:{out}", "w")  # nothing is written before the first packet
    except ValueError as error:
        raise UsageError(
            f"{out}: no container goes by the suffix {out.suffix!r}.", "use .mp4, .mov or .mkv"
        ) from error
    with container:
        name = container.format.name
        return _UNLISTED.get(name) or frozenset(container.supported_codecs) - _MISPLACED.get(
            name, frozenset()
        )


def _chosen_codec(choice: str, out: Path, can_hold: frozenset[str]) -> VideoCodec:
    codec = VIDEO_CODECS.get(choice)
    if codec is None:
        raise UsageError(f"no video codec {choice!r}.", f"--video-codec {'|'.join(VIDEO_CODECS)}")
    if codec.name not in can_hold:
        others = [s for s in _SUFFIXES if codec.name in codecs_of_container(out.with_suffix(s))]
        raise UsageError(
            f"{out}: a {out.suffix} file cannot hold {choice}.",
            f"choose a name with --out ending in {' or '.join(others)}",
        )
    return codec


def _quality(choice: str, codec: VideoCodec, quality: int | None) -> tuple[tuple[str, str], ...]:
    if codec.quality is None:
        if quality is not None:
            raise UsageError(
                f"{choice} has no quality to choose.", "leave out --quality, or choose another --video-codec"
            )
        return ()
    if quality is not None and not 0 <= quality <= codec.worst:
        raise UsageError(
            f"quality {quality} is not one of {choice}'s.", f"--quality 0 to {codec.worst}, lower is better"
        )
    return (("crf", str(codec.quality if quality is None else quality)),)


def _chosen_format(choice: str, codec: VideoCodec, picture: Any, asked: str | None) -> str:
    source = picture.format.name
    formats = tuple(
        f
        for f in codec.pixel_formats
        if _profile_holds(choice, f, bits_of(source) > 8)
        and (codec.any_size or is_whole(f, picture.width, picture.height))
    )
    if asked is None:
        return nearest_format(source, formats)
    if asked not in formats:
        raise UsageError(
            f"{choice} cannot hold pixel format {asked!r} at {picture.width} x {picture.height}.",
            f"--pixel-format {'|'.join(formats)}",
        )
    return asked


def _is_full_chroma(picture: Any) -> bool:
    """Whether every pixel has a colour of its own."""
    return picture.format.is_rgb or chroma_step(picture.format.name) == (1, 1)


def _profile_holds(choice: str, pixel_format: str, deep: bool) -> bool:
    """Whether the profile, where `choice` names one, holds a format that its encoder takes."""
    if choice.startswith("prores"):
        return ("444" in pixel_format) == ("444" in choice)
    if choice == "dnxhr-444":
        return pixel_format in ("yuv444p10le", "gbrp10le")
    if choice.startswith("dnx"):
        return pixel_format == (
            "yuv422p10le" if choice == "dnxhr-hqx" or (choice == "dnxhd" and deep) else "yuv422p"
        )
    return True


def _with_dnxhd_rate(settings: EncodeSettings) -> EncodeSettings:
    """DNxHD exists at a few sizes and bit rates: the nearest to the source's, or the DNxHR profile of its depth."""
    if settings.codec != "dnxhd":
        return replace(settings, bit_rate=0)
    for megabits in sorted(DNXHD_MBPS, key=lambda value: abs(value * 1e6 - settings.bit_rate)):
        if is_dnxhd(settings.width, settings.height, settings.rate, settings.pixel_format, megabits):
            return replace(settings, bit_rate=megabits * 1_000_000)
    choice = "dnxhr-hqx" if bits_of(settings.pixel_format) > 8 else "dnxhr-hq"
    note = f"DNxHD has no {settings.width} x {settings.height} at {float(settings.rate):.3f} a second: {choice} instead"
    options = VIDEO_CODECS[choice].options
    return replace(settings, codec=choice, options=options, bit_rate=0, notes=(*settings.notes, note))


def _stream_options(settings: EncodeSettings, variable_rate: bool) -> tuple[tuple[str, str], ...]:
    options = []
    colour, family = settings.colour, VIDEO_CODECS[settings.codec].name
    if family in ("h264", "hevc", "vp9", "av1"):
        options.append(("g", str(max(1, round(settings.rate * _GOP_S)))))
    if settings.interlaced and family in _INTERLACED:
        options.append(("flags", "+ildct+ilme"))
    if family == "h264":
        words = (
            [] if variable_rate else ["force-cfr=1"]
        )  # the stream states the rate, not the ticks of the file
        words += [f"mastering-display={colour.mastering}"] if colour.mastering else []
        words += [f"cll={colour.light}"] if colour.light else []
        options.append(("x264-params", ":".join(words)))
    if family == "hevc":
        words = ["open-gop=0", "log-level=none"]
        words += [f"master-display={colour.mastering}"] if colour.mastering else []
        words += [f"max-cll={colour.light}"] if colour.light else []
        options.append(("x265-params", ":".join(words)))
    return tuple((key, value) for key, value in options if value)


def _losses(settings: EncodeSettings, picture: Any, out: Path) -> tuple[str, ...]:
    notes = []
    family = VIDEO_CODECS[settings.codec].name
    if loses(picture.format.name, settings.pixel_format):
        notes.append(f"pixel format {picture.format.name} becomes {settings.pixel_format}")
    if settings.interlaced:
        kind = "interlaced" if family in _INTERLACED else "as whole pictures, both fields woven"
        notes.append(
            f"interlaced picture: written {kind}; new mouths are drawn on whole pictures, not on fields"
        )
    notes += _tags_lost(settings, family, out.suffix.lower())
    notes += [
        f"{kind} metadata belongs to the old picture and is left out" for kind in dynamic_metadata(picture)
    ]
    return tuple(notes)


def _tags_lost(settings: EncodeSettings, family: str, suffix: str) -> list[str]:
    """What only H.264 and HEVC say by themselves, where the container is not told."""
    if family in ("h264", "hevc"):
        return []
    notes = []
    if settings.colour.mastering or settings.colour.light:
        notes.append(f"{settings.codec} does not keep the HDR mastering and light-level metadata")
    if settings.sample_aspect not in (0, 1) and suffix in _SHAPELESS:
        notes.append(
            f"a {suffix} file does not keep the pixel shape {settings.sample_aspect} with {settings.codec}"
        )
    return notes

"""What `lipsync dub` is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from lipsync_cli.core.errors import UsageError
from lipsync_cli.dubbing.segments import Mismatch
from lipsync_cli.media.provenance import sidecar_path

DEFAULT_ENGINE = "flashlips-tiny"


@dataclass(frozen=True, kw_only=True)
class DubRequest:
    """One clip to dub.

    audio, driver_video, segments: what drives the mouth; one of `driver_video` and `segments`, or `audio`, or `audio`
    with `driver_video`: then the video drives and the audio is heard.
    output: None = <stem>.dub.<ext> beside the clip.  adapt: auto, off or a number of steps.
    engine_options: the engine's own, such as {"steps": "10"} of LatentSync.  face: see --face.
    preview_s: only so much of the clip's beginning.  keep_audio: the clip's own sound is heard.  mix_background: a
    file of sound that is heard beside the speech.  consent: who agreed to this and when, for the record.
    c2pa_certificate, c2pa_key: PEM files, for a signed manifest.
    """

    clip: Path
    audio: Path | None = None
    driver_video: Path | None = None
    segments: Path | None = None
    output: Path | None = None
    engine: str = DEFAULT_ENGINE
    adapt: str = "auto"
    engine_options: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    face: str = "auto"
    mismatch: Mismatch = "error"
    preview_s: Fraction | None = None
    side_by_side: Path | None = None
    contact_sheet: Path | None = None
    video_codec: str | None = None
    quality: int | None = None
    pixel_format: str | None = None
    keep_audio: bool = False
    mix_background: Path | None = None
    seed: int = 0
    consent: str | None = None
    provenance: bool = True
    c2pa_certificate: Path | None = None
    c2pa_key: Path | None = None
    overwrite: bool = False
    dry_run: bool = False

    def check(self) -> None:
        """Raises: UsageError for what cannot be meant."""
        if self.segments is not None and (self.audio is not None or self.driver_video is not None):
            raise UsageError("--segments names the speech itself.", "leave out --audio and --driver-video")
        if self.segments is None and self.audio is None and self.driver_video is None:
            raise UsageError(
                "nothing drives the mouth.", "give --audio FILE, --driver-video FILE or --segments FILE"
            )
        if self.keep_audio and self.mix_background is not None:
            raise UsageError("--keep-audio and --mix-background exclude each other.", "leave one of them out")
        if self.keep_audio and self.driver_video is not None and self.audio is not None:
            raise UsageError("--audio is neither seen nor heard here.", "leave out --audio or --keep-audio")
        if self.adapt not in ("auto", "off") and not self.adapt.isdecimal():
            raise UsageError(f"--adapt '{self.adapt}' is not auto, off or a number of steps.", "--adapt 300")
        if self.wants_c2pa and not self.provenance:
            raise UsageError("--no-provenance leaves nothing to sign.", "leave out --no-provenance")
        if self.preview_s is not None and self.preview_s <= 0:
            raise UsageError("a preview of no length.", "--preview 5")

    @property
    def target(self) -> Path:
        """Where the result goes."""
        return self.output or self.clip.with_suffix(f".dub{self.clip.suffix}")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """Files that are read and must not be written."""
        given = (self.clip, self.audio, self.driver_video, self.segments, self.mix_background)
        return tuple(path for path in (*given, self.c2pa_certificate, self.c2pa_key) if path is not None)

    @property
    def wants_c2pa(self) -> bool:
        """Whether a signed manifest is asked for."""
        return self.c2pa_certificate is not None or self.c2pa_key is not None

    @property
    def targets(self) -> tuple[Path, ...]:
        """All files that are written, the result first."""
        record = sidecar_path(self.target) if self.provenance else None
        wanted = (self.target, record, self.contact_sheet, self.side_by_side)
        return tuple(path for path in wanted if path is not None)

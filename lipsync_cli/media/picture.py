"""Proof that the picture was left alone: a hash over the payload of its packets, and where they are shown."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lipsync_cli.core.container import open_container, picture_shift
from lipsync_cli.media.probe import is_cover


@dataclass(frozen=True)
class PictureSummary:
    """sha256: hex, over the payload of all picture packets in stored order, "" without picture.

    first, last: presentation times of the first and the last packet shown, seconds on the container's
    timeline.
    """

    sha256: str
    packets: int
    first: Fraction
    last: Fraction


def picture_summary(path: Path) -> PictureSummary:
    """Read every picture packet of `path` without decoding. Raises: InputError for an unusable file."""
    digest, packets = hashlib.sha256(), 0
    times: list[Fraction] = []
    with open_container(path) as container:
        streams = [s for s in container.streams.video if not is_cover(s)]
        if not streams:
            return PictureSummary("", 0, Fraction(0), Fraction(0))
        shifts = {s.index: picture_shift(path, s.index) for s in streams}
        for packet in container.demux(streams):
            if not packet.size:
                continue
            digest.update(memoryview(packet))
            packets += 1
            if packet.pts is not None and packet.time_base is not None and not packet.is_discard:
                time = packet.pts * packet.time_base + shifts[packet.stream_index]
                times = [min(times[0], time), max(times[1], time)] if times else [time, time]
    first, last = times or [Fraction(0), Fraction(0)]
    return PictureSummary(digest.hexdigest(), packets, first, last)

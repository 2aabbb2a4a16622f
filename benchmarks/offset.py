"""How fast, and in how much memory, `lipsync offset` measures 1080p25 H.264 video on two cores.

    python benchmarks/offset.py                 # 1 and 5 minutes
    python benchmarks/offset.py --hours 1       # and an hour
    python benchmarks/offset.py --model ./my-model --json

The video is made here: examples/talking_photo.mp4 scaled into 1920×1080 (x264 veryfast, CRF 20), over and over. Each
length runs in a process of its own, on two cores, so that its peak memory is its own. "decode alone" is PyAV reading
every frame and keeping none: the limit that nothing which looks at the video can beat. Processor seconds are shown
beside wall seconds because a busy machine changes the second and hardly the first.

Target: at least 5× real time, and under 1.5 GB however long the clip is.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "talking_photo.mp4"
RATE = Fraction(25)
SIZE = (1920, 1080)
SOUND_HZ = 24_000
CORES = 2
STAGES = ("decode and convert", "detect, mesh, crop", "picture network", "sound", "sync")


# ---------------------------------------------------------------- the video


def write_long_clip(path: Path, seconds: float) -> None:
    """The example over and over; pictures are encoded once, and their packets repeated."""
    frames, samples = _example()
    loops = math.ceil(seconds * RATE / len(frames))
    once = path.with_suffix(".once.mp4")
    _encode(once, frames)
    with av.open(str(once)) as source, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("aac", rate=SOUND_HZ, layout="mono")
        packets = [
            (bytes(p), p.pts or 0, p.dts or 0, p.is_keyframe, p.time_base)
            for p in source.demux(video=0)
            if p.size
        ]
        period = round(len(frames) / RATE / packets[0][4])
        for loop in range(loops):
            for data, pts, dts, key, base in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.time_base = pts + loop * period, dts + loop * period, base
                packet.is_keyframe, packet.stream = key, picture
                out.mux(packet)
            _encode_sound(out, sound, samples, loop * len(samples))
        out.mux(sound.encode(None))
    once.unlink()


def _example() -> tuple[list[np.ndarray], np.ndarray]:
    from lipsync_cli.audio.load import load_audio
    from lipsync_cli.media.frames import read_frames

    width, height = SIZE
    left = (width - height) // 2
    frames = []
    for frame in read_frames(EXAMPLE):
        wide = cv2.copyMakeBorder(
            cv2.resize(frame.image, (height, height), interpolation=cv2.INTER_CUBIC),
            0, 0, left, left, cv2.BORDER_REPLICATE,
        )  # fmt: skip
        frames.append(wide)
    samples = np.zeros(int(len(frames) / RATE * SOUND_HZ), np.float32)
    heard = load_audio(EXAMPLE, sample_rate_hz=SOUND_HZ).samples[: len(samples)]
    samples[: len(heard)] = heard
    return frames, samples


def _encode(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "veryfast", "crf": "20"}
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        out.mux(stream.encode(None))


def _encode_sound(out, stream, samples: np.ndarray, start: int) -> None:
    for at in range(0, len(samples), 1024):
        piece = av.AudioFrame.from_ndarray(samples[None, at : at + 1024], "fltp", "mono")
        piece.sample_rate, piece.pts, piece.time_base = SOUND_HZ, start + at, Fraction(1, SOUND_HZ)
        out.mux(stream.encode(piece))


# ---------------------------------------------------------------- one length, in its own process


class Clock:
    """Wall seconds by name."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.wall_s[name] += time.perf_counter() - start

    def timed(self, name: str, owner: object, method: str) -> None:
        """Count the time of a method of one object."""
        run = getattr(owner, method)

        def counted(*args, **kwargs):
            with self.running(name):
                return run(*args, **kwargs)

        setattr(owner, method, counted)


def measure(path: Path, model: str) -> dict:
    """Everything about one clip: the whole command, then decoding alone and decoding with conversion."""
    from lipsync_cli.media.frames import sample_frames
    from lipsync_cli.tasks import offset as task
    from lipsync_cli.tasks.lips_and_sound import LONG_SIDE_PX

    clock = Clock()
    meter = task.OffsetMeter(model, "cpu")
    clock.timed("picture network", meter.embedder, "embed_pictures")
    faces, sound = task.embed_faces, task.embed_sound

    def timed_faces(*args):
        with clock.running("detect, mesh, crop"):
            return faces(*args)

    def timed_sound(*args):
        with clock.running("sound"):
            return sound(*args)

    task.embed_faces, task.embed_sound = timed_faces, timed_sound
    result: list = []
    whole = _cost(lambda: result.append(meter.measure(task.OffsetRequest(path))))
    peak_mb = _peak_mb()  # of the command, before anything else runs here
    decode = _cost(lambda: _decode(path))
    convert = _cost(lambda: sum(1 for _ in sample_frames(path, long_side_px=LONG_SIDE_PX)))
    spent = clock.wall_s
    spent["sync"] = whole["wall_s"] - spent["detect, mesh, crop"] - spent["sound"]
    spent["decode and convert"] = convert["wall_s"]
    # decoding runs beside the networks: what the pass over the faces took beyond either is what it waited for
    spent["detect, mesh, crop"] -= spent["picture network"]
    return {
        "seconds": result[0].duration_s,
        "audio_lead_ms": result[0].estimate.audio_lead_ms,
        "decode_alone": decode,
        "decode_and_convert": convert,
        "whole": whole,
        "stages_wall_s": spent,
        "peak_mb": peak_mb,
    }


def _peak_mb() -> float:
    """Of this process alone: on Linux ru_maxrss begins at what the process that started it held."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _decode(path: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def _cost(run) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


# ---------------------------------------------------------------- the table


def report(row: dict) -> str:
    minutes = row["seconds"] / 60
    whole, decode = row["whole"], row["decode_alone"]
    lines = [
        f"{minutes:.0f} min: {row['seconds'] / whole['wall_s']:.1f}× real time by the clock,"
        f" {CORES * row['seconds'] / whole['cpu_s']:.1f}× if both cores were free;"
        f" {whole['wall_s'] / minutes:.2f} s wall and {whole['cpu_s'] / minutes:.2f} s processor a minute;"
        f" {whole['cpu_s'] / decode['cpu_s']:.1f}× the processor time of decoding alone; peak {row['peak_mb']:.0f} MB;"
        f" lead {row['audio_lead_ms']:.1f} ms"
    ]
    lines.append(
        f"  decode alone        {decode['wall_s'] / minutes:6.2f} s wall {decode['cpu_s'] / minutes:6.2f} s processor"
    )
    lines += [f"  {name:19s} {row['stages_wall_s'][name] / minutes:6.2f} s wall" for name in STAGES]
    return "\n".join(lines)


def run_alone(path: Path, model: str) -> dict:
    """`measure` in a fresh process that may use two cores."""
    command = [sys.executable, __file__, "--clip", str(path), "--model", model]
    environment = {**os.environ, "OMP_NUM_THREADS": str(CORES)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Speed and memory of `lipsync offset` on 1080p25 video, two cores."
    )
    parser.add_argument("--model", default="synclipmae-tiny")
    parser.add_argument("--minutes", type=float, nargs="*", default=[1, 5])
    parser.add_argument("--hours", type=float, help="also a clip of this many hours")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.clip:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
        print(json.dumps(measure(wanted.clip, wanted.model)))
        return
    for minutes in [*wanted.minutes, *([wanted.hours * 60] if wanted.hours else [])]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.mp4"
            write_long_clip(path, minutes * 60)
            row = run_alone(path, wanted.model)
        print(json.dumps(row) if wanted.json else report(row), flush=True)


if __name__ == "__main__":
    main()

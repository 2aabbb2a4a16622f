"""What this machine offers to lipsync: packages, devices, codecs, models, threads."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib import metadata

from lipsync_cli import __version__
from lipsync_cli.hub.catalogue import read_catalogue
from lipsync_cli.hub.model_folder import is_present

ENCODERS = ("libx264", "libx265", "prores_ks", "dnxhd", "h264_nvenc", "aac", "flac", "pcm_s16le", "pcm_s24le")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package that lipsync needs. installed: its version, or None.  wanted: the range declared."""

    name: str
    installed: str | None
    wanted: str


@dataclass(frozen=True, kw_only=True)
class Device:
    """A place where networks can run. memory_gib: its own memory, None for the processor."""

    name: str
    description: str
    memory_gib: float | None


@dataclass(frozen=True, kw_only=True)
class DoctorResult:
    """encoders, models: name → present.  problems: sentences, empty when all is well."""

    lipsync: str
    python: str
    platform: str
    cores: int
    torch_threads: int | None
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    encoders: dict[str, bool]
    models: dict[str, bool]
    problems: tuple[str, ...]


def doctor() -> DoctorResult:
    """Look at the machine; loads no network and reaches for none."""
    packages = _packages()
    devices, threads = _devices()
    encoders = _encoders()
    return DoctorResult(
        lipsync=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        torch_threads=threads,
        packages=packages,
        devices=devices,
        encoders=encoders,
        models={name: is_present(entry) for name, entry in read_catalogue().items()},
        problems=_problems(packages, encoders),
    )


def _packages() -> tuple[Package, ...]:
    try:
        required = metadata.requires("lipsync") or []
    except metadata.PackageNotFoundError:  # run from the source tree without being installed
        required = []
    found = []
    for line in required:
        match = re.match(r"([A-Za-z0-9._-]+)\s*([^;\[]*)$", line)
        if match:  # a line with a marker belongs to an extra
            found.append(Package(name=match[1], installed=_version(match[1]), wanted=match[2].strip()))
    return tuple(sorted(found, key=lambda package: package.name))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> tuple[tuple[Device, ...], int | None]:
    processor = Device(name="cpu", description=platform.processor() or platform.machine(), memory_gib=None)
    try:
        import torch
    except (ImportError, OSError):  # OSError: a torch whose libraries do not load
        return (processor,), None
    devices = [processor]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory_gib = round(properties.total_memory / 2**30, 1)
        devices.append(Device(name=f"cuda:{index}", description=properties.name, memory_gib=memory_gib))
    if torch.backends.mps.is_available():
        devices.append(Device(name="mps", description="Apple Metal", memory_gib=None))
    return tuple(devices), torch.get_num_threads()


def _encoders() -> dict[str, bool]:
    try:
        import av.codec
    except (ImportError, OSError):
        return dict.fromkeys(ENCODERS, False)

    def present(name: str) -> bool:
        try:
            return av.codec.Codec(name, "w") is not None
        except av.codec.codec.UnknownCodecError:
            return False

    return {name: present(name) for name in ENCODERS}


def _problems(packages: tuple[Package, ...], encoders: dict[str, bool]) -> tuple[str, ...]:
    missing = [
        f"the package {package.name} is not installed" for package in packages if not package.installed
    ]
    if _version("opencv-python") and _version("opencv-python-headless"):
        missing.append("opencv-python and opencv-python-headless are both installed; the former needs libGL")
    missing += [f"the encoder {name} is not available" for name in ("libx264", "aac") if not encoders[name]]
    return tuple(missing)

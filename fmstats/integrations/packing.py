"""Profiles as bytes, to be sent or kept inside of something else: the content of their file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import fmstats


def pack(profile: fmstats.Profile) -> bytes:
    """What `Profile.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "packed.fmstats")
        profile.save(path)
        return path.read_bytes()


def unpack(content: bytes) -> fmstats.Profile:
    """The profile that was packed.

    Raises:
        FmstatsError: these are no bytes of a profile.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "packed.fmstats")
        path.write_bytes(content)
        return fmstats.load(path)

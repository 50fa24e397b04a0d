"""Writing a file whole or not at all, and telling files apart."""

from __future__ import annotations

import filecmp
import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

from fmstats.errors import FmstatsError

_HEAD = 1 << 18  # bytes, by which most files differ already


def check_place(path: Path) -> None:
    """Refuse a path at which no file can be written.

    Raises:
        FmstatsError: its folder is missing or closed, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise FmstatsError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise FmstatsError(f"cannot write {str(path)!r}: it is a folder, or in a read-only one")


def find_repeated(paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """The first two files of the same content, which may be the same file; None if all differ."""
    known: dict[tuple[int, bytes], list[Path]] = {}
    for path in paths:
        if not path.is_file():  # whoever reads it says so
            continue
        with path.open("rb") as file:
            key = path.stat().st_size, hashlib.sha256(file.read(_HEAD)).digest()
        for other in known.setdefault(key, []):
            if filecmp.cmp(path, other, shallow=False):
                return other, path
        known[key].append(path)
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place in one step, on the disk when this returns.

    Whatever goes wrong, a power cut included, `path` is the old file or the new one.

    Raises:
        FmstatsError: as `check_place`, or the disk refuses; the old file is untouched.
    """
    check_place(path)
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FmstatsError(f"cannot write {str(path)!r}: {error}") from error
    finally:
        beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the folder's new entry on the disk; Windows has no call for that."""
    if os.name == "nt":
        return
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)

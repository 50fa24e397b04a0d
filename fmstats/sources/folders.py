"""Find the files in a folder and below, each once, whatever links lead to it."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from fmstats.errors import FmstatsError
from fmstats.output.tables import name_some
from fmstats.sources.decoding import is_image, list_formats

_SUFFIXES_NAMED = 12  # in a message


def find_images(folder: Path) -> list[Path]:
    """Return the image files in `folder` and below, sorted, chosen by their suffixes.

    Files and folders whose names start with a dot are left out. Symbolic links are followed; a file
    or folder to which several paths lead is taken once, by its own path if that is in `folder`.

    Raises:
        FmstatsError: there is none, or a folder cannot be read.
    """
    files = _list_files(folder)
    images = sorted(path for path in files if is_image(path))
    if not images:
        state = f"{len(files)} files, none ends in" if files else "it is empty; fmstats reads"
        raise FmstatsError(
            f"no image in folder {str(folder)!r}: {state} "
            f"{name_some(list(list_formats()), _SUFFIXES_NAMED)}"
        )
    return images


def _list_files(folder: Path) -> list[Path]:
    """List every file once; those that no link leads to come first and keep their own path."""
    found: dict[str, Path] = {}  # by their real paths
    entered: set[str] = set()
    folders, linked_folders = deque([str(folder)]), deque[str]()
    linked: list[str] = []
    while folders or linked_folders:
        here = folders.popleft() if folders else linked_folders.popleft()
        real = os.path.realpath(here)
        if real in entered:
            continue
        entered.add(real)
        for entry in _read_folder(here):
            if _is_folder(entry):
                (linked_folders if entry.is_symlink() else folders).append(entry.path)
            elif entry.is_symlink():
                linked.append(entry.path)
            else:
                found.setdefault(os.path.join(real, entry.name), Path(entry.path))
    for path in sorted(linked):
        found.setdefault(os.path.realpath(path), Path(path))
    return list(found.values())


def _read_folder(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise FmstatsError(f"folder {folder!r} cannot be read: {error.strerror}") from error
    return sorted(seen, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: whoever reads it says so
        return False

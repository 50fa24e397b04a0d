"""Write a file whole or not at all, and detect files of the same content.

A file that is there is replaced in one step by one of the same owner, mode, access list and other
extended attributes. A symbolic link stays, and the file that it names is written; so does a pipe or
a device, into which the content is written. Of several hard links to a file the one that was named
leads to the new content, the others keep the old.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import hashlib
import os
import stat
import uuid
from collections.abc import Sequence
from pathlib import Path

from fmstats.errors import FmstatsError

_HEAD = 1 << 18  # bytes, by which most files differ already
_MOST_LINKS = 40  # after one another, as Linux follows them


def check_place(path: Path) -> None:
    """Refuse a path at which no file can be written.

    Raises:
        FmstatsError: its folder is missing or closed; or it is a folder, a read-only file, a
            socket, a block device, or a symbolic link that leads nowhere.
    """
    try:
        _find_target(path)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def check_suffix(path: Path, suffixes: Sequence[str], what: str) -> str:
    """Return the suffix, in lower case, of a path to which `what` is to be written.

    Args:
        path: of the file.
        suffixes: those that it may have.
        what: such as "a picture".

    Raises:
        FmstatsError: it is none of `suffixes`.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        choices = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise FmstatsError(f"cannot write {str(path)!r}: {what} ends in {choices}")
    return suffix


def find_repeated(paths: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return the first two files of the same content; None if all differ."""
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


def refuse_repeated(paths: Sequence[Path], why: str) -> None:
    """Refuse profiles of which two are the same: a glob may take more than it should.

    Raises:
        FmstatsError: there are two; it ends in `why`.
    """
    both = find_repeated(paths)
    if both is not None:
        raise FmstatsError(f"{str(both[0])!r} and {str(both[1])!r} are the same profile: {why}")


def encode_text(text: str) -> bytes:
    """Encode text as UTF-8, with lone surrogates (possible in Python names) escaped."""
    return text.encode("utf-8", "backslashreplace")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file in one step; it is on the disk when this returns.

    Whatever goes wrong, a power cut included, `path` is the old file or the new one. Into a pipe or
    a device (`/dev/stdout`, `/dev/null`) the content is written as it comes; a pipe that nobody
    reads yet is waited for, as a shell does.

    Raises:
        FmstatsError: as `check_place`, or the disk refuses; the old file is untouched.
    """
    try:
        target, old = _find_target(path)
        if isinstance(target, int):
            _pour(os.dup(target), content)
        elif old is None or stat.S_ISREG(old.st_mode):
            _replace(target, old, content)
        else:
            _pour(os.open(target, os.O_WRONLY), content)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: Exception) -> FmstatsError:
    reason = (isinstance(error, OSError) and error.strerror) or error
    return FmstatsError(f"cannot write {str(path)!r}: {reason}")


def _find_target(path: Path) -> tuple[Path | int, os.stat_result | None]:
    """Return what a path leads to, a file or an open descriptor, and its status if it exists.

    Raises:
        OSError: that cannot be found out.
        FmstatsError: nothing can be written there.
    """
    target = _follow(path)
    if isinstance(target, int):
        return target, None
    if not target.parent.is_dir():
        raise FmstatsError(f"there is no folder {str(target.parent)!r}")
    try:
        old = target.stat()
    except FileNotFoundError:
        old = None
    mode = 0 if old is None else old.st_mode
    if stat.S_ISDIR(mode):
        raise FmstatsError("it is a folder")
    if stat.S_ISSOCK(mode) or stat.S_ISBLK(mode):
        raise FmstatsError("it is a socket or a block device")
    if old is not None and not _may_write(target):
        raise FmstatsError("it is read-only")
    if (old is None or stat.S_ISREG(mode)) and not _may_write(target.parent):
        raise FmstatsError(f"its folder {str(target.parent)!r} is read-only")
    return target, old


def _follow(path: Path) -> Path | int:
    """Return the file behind all symbolic links, or a descriptor that this process has open.

    Raises:
        FmstatsError: the links have no end.
    """
    here = f"/proc/{os.getpid()}/fd"
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        # /dev/stdout: opening it anew would cut off a file to which the shell has redirected it.
        if folder in (here, "/dev/fd") and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return path
        path = Path(path.parent, os.readlink(path))
    raise FmstatsError("its symbolic links lead in a circle")


def _may_write(path: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(path, os.W_OK, effective_ids=effective)


def _pour(descriptor: int, content: bytes) -> None:
    with open(descriptor, "wb") as file:
        file.write(content)


def _replace(path: Path, old: os.stat_result | None, content: bytes) -> None:
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    # What replaces a private file is private from its first byte on; a new one is as umask says.
    mode = 0o666 if old is None else 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(beside, flags, mode), "wb") as file:
            if old is not None and os.name != "nt":
                _pass_on(path, old, file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def _pass_on(path: Path, old: os.stat_result, file: int) -> None:
    """Give a file the owner, mode and extended attributes of an old one, as far as one may."""
    now, mode = os.fstat(file), old.st_mode & 0o777
    if (now.st_uid, now.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(file, old.st_uid, old.st_gid)
        except OSError:  # only root may give files away
            try:
                os.fchown(file, -1, old.st_gid)
            except OSError:  # another group, which may do what everybody may
                mode &= 0o707 | (mode & 0o007) << 3
    os.fchmod(file, mode)
    if hasattr(os, "listxattr"):  # Linux, where they hold the access list
        with contextlib.suppress(OSError):  # of file systems without them
            for name in os.listxattr(path):
                with contextlib.suppress(OSError):  # what only root may write
                    os.setxattr(file, name, os.getxattr(path, name))


def _sync_folder(folder: Path) -> None:
    """Have the folder's new entry on the disk, where the system has a call for that."""
    try:
        entry = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows; or a folder that one may write but not list
        return
    try:
        os.fsync(entry)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # as network file systems say
            raise
    finally:
        os.close(entry)

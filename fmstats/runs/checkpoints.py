"""Profile files that a run leaves on its way, from which the same run can go on.

A checkpoint is a profile of the batches folded so far. Its metadata has `checkpoint`, which tells
of what run it is and how far that has come; it is complete when the run is.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fmstats import storage
from fmstats.errors import FmstatsError
from fmstats.files import check_place
from fmstats.profiles import Profile
from fmstats.runs.account import Account
from fmstats.runs.identity import Identity, find_differences

_KEY = "checkpoint"


@dataclass
class Progress:
    """How far a process has come with its share of the batches.

    Attributes:
        next_batch: those of its batches with a lower number are done.
        passes: forward passes begun, for `every`.
        known: number and checksum of a batch that was folded.
        complete: whether nothing is left to do.
    """

    next_batch: int = 0
    passes: int = 0
    known: tuple[int, str] | None = None
    complete: bool = False


class Checkpoint:
    """The file of one process.

    Args:
        path: the file; if it is there, the run goes on where it was when it was written.
        every: seconds between two of its versions.
        identity: of the run.

    Attributes:
        path: as above.
        base: the profile that was there, without its progress; None if none was.
        progress: how far the run had come.

    Raises:
        FmstatsError: the file is no checkpoint, or is of another run; it is untouched. Or no file
            can be written there.
    """

    def __init__(self, path: Path, every: float, identity: Identity) -> None:
        self.path, self._every, self._identity = path, every, identity
        self.base: Profile | None = None
        self.progress = Progress()
        check_place(path)
        if path.exists():
            self._read()
        self._written = time.monotonic()

    def _read(self) -> None:
        profile = storage.load(self.path)
        found: Any = profile.metadata.pop(_KEY, None)
        if not (isinstance(found, dict) and isinstance(found.get("identity"), dict)):
            raise FmstatsError(
                f"{str(self.path)!r} is a profile, but no checkpoint: it tells of no run to go on "
                "with. Give another file"
            )
        other = find_differences(found.pop("identity"), self._identity)
        if other:
            raise FmstatsError(
                f"checkpoint {str(self.path)!r} is of another run ({'; '.join(other)}): run with "
                "what it was made with, or give another file"
            )
        self.progress = Progress(**found)
        if self.progress.known is not None:
            self.progress.known = (self.progress.known[0], self.progress.known[1])
        account = Account.of_metadata(profile.metadata)
        account.resumed, account.resumed_batches = account.samples, account.batches
        profile.metadata.update(account.to_metadata())
        self.base = profile

    def is_due(self) -> bool:
        """Whether it is time to write again."""
        return time.monotonic() - self._written >= self._every

    def write(self, profile: Profile, progress: Progress) -> None:
        """Write a profile of all that was folded, and how far that is.

        Raises:
            FmstatsError: the disk refuses; the version before is untouched.
        """
        told = {**asdict(progress), "identity": self._identity}
        storage.save(Profile(profile.info, {**profile.metadata, _KEY: told}), self.path)
        self._written = time.monotonic()

"""Write and read the profile files from which an interrupted run can resume.

A checkpoint is a profile of the batches run so far. Its metadata has `checkpoint`, which says of
which run it is and how far that has come; it is complete when the run is.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fmstats import storage
from fmstats.errors import FmstatsError
from fmstats.output.files import check_place
from fmstats.output.tables import name_some
from fmstats.profiles.profile import Profile
from fmstats.runs.account import Account
from fmstats.runs.identity import Identity, find_differences
from fmstats.sources.entrypoints import describe_error

_KEY = "checkpoint"
_NAMED = 3  # in a message
_CHOICES = (
    "To start a new run, delete the file or give another one; if this is the same run after all, "
    "give resume='trust' (--resume trust)"
)


@dataclass
class Progress:
    """Says how far a process has come with its share of the batches.

    Attributes:
        next_batch: those of its batches with a lower number are done.
        passes: forward passes so far, for `every`.
        known: how many batches the process has read, its own or not, and the digest of all of
            them; None where the identity of the run covers the samples themselves.
        unknown: what in them has no fingerprint.
        complete: whether nothing is left to do.
    """

    next_batch: int = 0
    passes: int = 0
    known: tuple[int, str] | None = None
    unknown: list[str] = field(default_factory=list)
    complete: bool = False


class Checkpoint:
    """Reads and writes the checkpoint file of one process.

    Args:
        path: the file; if it exists, the run resumes from where it was written.
        every: seconds between two of its versions.
        identity: of the run.
        trusted: whether the caller vouches that weights, code and data are those that the file was
            made with, whatever they look like.

    Attributes:
        path, trusted: as above.
        base: the profile that was there, without its progress; None if none was.
        progress: how far the run had come.

    Raises:
        FmstatsError: the file is no checkpoint, or is of another run, or cannot be shown to be of
            this one; it is untouched. Or no file can be written there.
    """

    def __init__(self, path: Path, every: float, identity: Identity, *, trusted: bool) -> None:
        self.path, self.trusted = path, trusted
        self._every, self._identity = every, identity
        self.base: Profile | None = None
        self.progress = Progress()
        check_place(path)
        if path.exists():
            try:
                self._read()
            except FmstatsError:
                raise
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                raise self._misread(describe_error(error)) from error
        self._written = time.monotonic()

    def _read(self) -> None:
        profile = storage.load(self.path)
        found: Any = profile.metadata.pop(_KEY, None)
        if not (isinstance(found, dict) and isinstance(found.get("identity"), dict)):
            raise FmstatsError(
                f"{str(self.path)!r} is a profile but not a checkpoint: it holds no run to "
                "resume. Give another file"
            )
        there = found.pop("identity")
        doubts = self._compare(there, profile.metadata.get("fmstats"))
        if not doubts and not self.trusted:
            doubts = self._ask(there, found.get("unknown", []))
        if doubts and not self.trusted:
            raise FmstatsError(f"{doubts}. {_CHOICES}")
        if "content" not in there:  # its other entries cover less than those of today
            found = {**found, "known": None}
        self.progress = Progress(**found)
        if self.progress.known is not None:
            self.progress.known = (self.progress.known[0], self.progress.known[1])
        if doubts:
            profile.metadata["trusted"] = [*profile.metadata.get("trusted", []), doubts]
        if not isinstance(profile.metadata.get("backends"), dict):
            raise self._misread("'backends' of the metadata is not a mapping")
        try:
            account = Account.of_metadata(profile.metadata)
        except FmstatsError as error:
            raise self._misread(str(error)) from error
        account.resumed, account.resumed_batches = account.samples, account.batches
        profile.metadata.update(account.to_metadata())
        self.base = profile

    def _misread(self, why: str) -> FmstatsError:
        return FmstatsError(
            f"checkpoint {str(self.path)!r} cannot be read ({why}): delete the file or give "
            "another one"
        )

    def _compare(self, there: dict[str, Any], version: object) -> str:
        """Say how the run of the file differs from this one, as far as that may be trusted.

        Raises:
            FmstatsError: it differs in what was asked for.
        """
        named, here = f"checkpoint {str(self.path)!r}", self._identity
        is_old = "content" not in there
        run = {k: v for k, v in there.items() if k in here["run"]} if is_old else there["run"]
        wanted = {k: v for k, v in here["run"].items() if k in run or not is_old}
        other = find_differences(run, wanted)
        if other:
            raise FmstatsError(
                f"{named} belongs to another run ({'; '.join(other)}): give the arguments that it "
                "was made with, delete the file, or give another file"
            )
        if is_old:
            return (
                f"{named} was written by fmstats {version}, which did not record the weights, code "
                "and data of a run"
            )
        other = find_differences(there["content"], here["content"])
        return f"{named} belongs to another run: {'; '.join(other)}" if other else ""

    def _ask(self, there: dict[str, Any], unknown: list[str]) -> str:
        """Name what cannot be compared with the run of the file."""
        lacks = list(dict.fromkeys([*there["unknown"], *self._identity["unknown"], *unknown]))
        if not lacks:
            return ""
        return (
            f"checkpoint {str(self.path)!r} may belong to another run: fmstats cannot compare "
            f"{name_some(lacks, _NAMED)} with that run"
        )

    def is_due(self) -> bool:
        """Return whether it is time to write again."""
        return time.monotonic() - self._written >= self._every

    def write(self, profile: Profile, progress: Progress) -> None:
        """Write a profile of all batches so far, and how far the run has come.

        Raises:
            FmstatsError: the disk refuses; the version before is untouched.
        """
        state = {**asdict(progress), "identity": self._identity}
        storage.save(profile.with_metadata({**profile.metadata, _KEY: state}), self.path)
        self._written = time.monotonic()

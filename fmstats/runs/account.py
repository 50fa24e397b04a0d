"""Keep account of what a run has done, for the metadata of its profile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.coverage import Coverage
from fmstats.profiles.metadata import read_count, read_number, show_value
from fmstats.runs.counting import add_samples
from fmstats.sources.stored import Skipped

PASSES = ("passes", "passes_measured")  # of a tracker's metadata, to be added up

Rows = list[dict[str, Any]]


@dataclass
class Account:
    """Keeps account of a run, or of a part of one.

    Attributes:
        started, ended: UTC, ISO 8601.
        samples, batches: that were run; samples are None if their number is unknown.
        seconds: from start to end, without pauses between parts.
        skipped: what was left out.
        statistics_share: of the seconds, by the host's clock; None if it is not known.
        coverage: name, type, status and reason of each selected layer that has no statistics.
        resumed, resumed_batches: samples and batches that were taken over from a checkpoint.
    """

    started: str
    ended: str = ""
    samples: int | None = 0
    batches: int = 0
    seconds: float = 0.0
    skipped: Skipped = field(default_factory=Skipped)
    statistics_share: float | None = None
    coverage: Rows = field(default_factory=list)
    resumed: int | None = 0
    resumed_batches: int = 0

    def to_metadata(self) -> dict[str, Any]:
        """Return the account as the metadata of a profile store it."""
        return {
            **vars(self),
            "skipped": list(self.skipped.entries),
            "skipped_count": self.skipped.count,
        }

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> Account:
        """Read back what `to_metadata` has written.

        Raises:
            FmstatsError: an entry is missing, or says nothing of the kind: a file may be edited.
        """
        metadata = {"resumed_batches": 0, **metadata}  # fmstats 0.1 did not write it
        for key, fits in _ENTRIES.items():
            if key not in metadata or not fits(metadata, key):
                found = show_value(metadata[key]) if key in metadata else "missing"
                raise FmstatsError(f"{key!r} of the metadata is {found}")
        known = {name: metadata[name] for name in cls.__dataclass_fields__}
        skipped = Skipped(metadata["skipped_count"], list(metadata["skipped"]))
        return cls(**{**known, "skipped": skipped})


def _is_text(metadata: Mapping[str, Any], key: str) -> bool:
    return isinstance(metadata[key], str)


def _is_count(metadata: Mapping[str, Any], key: str) -> bool:
    return read_count(metadata, key) is not None


def _is_count_or_unknown(metadata: Mapping[str, Any], key: str) -> bool:
    return metadata[key] is None or _is_count(metadata, key)


def _is_number(metadata: Mapping[str, Any], key: str) -> bool:
    return read_number(metadata, key) is not None


def _is_number_or_unknown(metadata: Mapping[str, Any], key: str) -> bool:
    return metadata[key] is None or _is_number(metadata, key)


def _are_texts(metadata: Mapping[str, Any], key: str) -> bool:
    return isinstance(metadata[key], list) and all(
        isinstance(entry, str) for entry in metadata[key]
    )


def _are_rows(metadata: Mapping[str, Any], key: str) -> bool:
    """Return whether each row has what `_join_coverage` needs."""
    return isinstance(metadata[key], list) and all(
        isinstance(row, dict) and {"name", "status"} <= row.keys() and isinstance(row["name"], str)
        for row in metadata[key]
    )


_ENTRIES: dict[str, Callable[[Mapping[str, Any], str], bool]] = {
    "started": _is_text,
    "ended": _is_text,
    "samples": _is_count_or_unknown,
    "batches": _is_count,
    "seconds": _is_number,
    "skipped": _are_texts,
    "skipped_count": _is_count,
    "statistics_share": _is_number_or_unknown,
    "coverage": _are_rows,
    "resumed": _is_count_or_unknown,
    "resumed_batches": _is_count,
}


def format_now() -> str:
    """Return the current time in UTC, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def list_untracked(coverage: Coverage) -> Rows:
    """List the layers that were selected but have no statistics, as plain rows."""
    return [
        {"name": row.name, "type": row.type, "status": row.status, "reason": row.reason}
        for row in coverage
        if row.status != "tracked"
    ]


def describe_done(metadata: Mapping[str, Any]) -> str:
    """Say how much was run: `12 samples`, or batches where samples are unknown."""
    if metadata["samples"] is None:
        return f"{metadata['batches']} batches"
    return f"{metadata['samples']} samples"


def join(accounts: Sequence[Account], *, parallel: bool) -> Account:
    """Join the accounts of parts of one run, which ran one after the other or in parallel."""
    whole = Account(min(part.started for part in accounts), max(part.ended for part in accounts))
    whole.coverage = accounts[0].coverage
    for part in accounts[1:]:
        whole.coverage = _join_coverage(whole.coverage, part.coverage)
    for part in accounts:
        whole.samples = add_samples(whole.samples, part.samples)
        whole.batches += part.batches
        whole.resumed = add_samples(whole.resumed, part.resumed)
        whole.resumed_batches += part.resumed_batches
        whole.skipped.extend(part.skipped)
    seconds = [part.seconds for part in accounts]
    whole.seconds = max(seconds) if parallel else sum(seconds)
    timed = [(p.seconds, p.statistics_share) for p in accounts if p.statistics_share is not None]
    if sum(seconds for seconds, _ in timed):
        spent = sum(seconds * share for seconds, share in timed)
        whole.statistics_share = spent / sum(seconds for seconds, _ in timed)
    return whole


def _join_coverage(earlier: Rows, later: Rows) -> Rows:
    """Keep the later entry of each layer, unless the layer never fired in that part."""
    before = {row["name"]: row for row in earlier}
    rows = [before.get(r["name"]) if r["status"] == "never fired" else r for r in later]
    return [row for row in rows if row is not None]

"""Compare with a baseline of one profile or of several, of which three or more are its shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fmstats.drift.compare import LEAST_SHARDS, compare
from fmstats.drift.comparison import Comparison
from fmstats.profiles.profile import Profile


@dataclass(frozen=True)
class Baseline:
    """Holds what profiles are compared with.

    Attributes:
        profiles: the parts of the baseline, at least one. Three or more are its shards, which show
            what chance gives; two are not enough for that.
        whole: all of them, merged.
        missing: what to do with layers that cannot be compared, as of `compare`.
    """

    profiles: Sequence[Profile]
    whole: Profile
    missing: str

    @classmethod
    def of(cls, profiles: Sequence[Profile], missing: str = "refuse") -> Baseline:
        """Merge the parts of a baseline.

        Raises:
            FmstatsError: they do not fit together, or `missing` is neither "refuse" nor "drop".
        """
        return cls(profiles, profiles[0].merge(*profiles[1:], missing=missing), missing)

    def compare(self, now: Profile, threshold: float | None = None) -> Comparison:
        """Compare a profile with the baseline.

        Raises:
            FmstatsError: as `fmstats.drift.compare`.
        """
        shards = self.profiles if len(self.profiles) >= LEAST_SHARDS else None
        found = compare(
            now, self.whole, calibration=shards, threshold=threshold, missing=self.missing
        )
        if shards is not None or len(self.profiles) == 1:
            return found
        note = (
            f"{len(self.profiles)} files of a baseline do not show how much profiles differ by "
            f"chance: give {LEAST_SHARDS} or more"
        )
        return replace(found, reasons=(*found.reasons, note))

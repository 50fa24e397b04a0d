"""`Measures` tell what a state holds on request, beside what is always measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from fmstats.errors import FmstatsError
from fmstats.statistic.bins import Bins
from fmstats.statistic.fields import FIELDS, MOMENTS, REQUESTED

HISTOGRAM = "histogram"
CHOICES = (*REQUESTED, HISTOGRAM)


@dataclass(frozen=True)
class Measures:
    """Measures name what is known of each channel; without any, it is what is always measured.

    Attributes:
        sums: those of `REQUESTED`, in its order: "abs" is the sum of magnitudes, "kurtosis" the
            third and fourth central moments.
        bins: of histograms; None: there are none.
    """

    sums: tuple[str, ...] = ()
    bins: Bins | None = None

    @classmethod
    def of(cls, asked: str | Iterable[str], bins: Bins | None = None) -> Measures:
        """Return the measures that somebody asks for by their names, some of `CHOICES`.

        Args:
            asked: one name, or several.
            bins: of histograms, if they are asked for; None: as `Bins` are by default.

        Raises:
            FmstatsError: there is no such measure.
        """
        iterable = not isinstance(asked, str) and isinstance(asked, Iterable)
        names = tuple(asked) if iterable else (asked,)
        for name in names:
            if name not in CHOICES:
                choices = ", ".join(map(repr, CHOICES))
                raise FmstatsError(f"measure={asked!r}: choose among {choices}")
        sums = tuple(measure for measure in REQUESTED if measure in names)
        return cls(sums, (bins or Bins()) if HISTOGRAM in names else None)

    @property
    def names(self) -> tuple[str, ...]:
        """Return what a user would ask for."""
        return self.sums + (() if self.bins is None else (HISTOGRAM,))

    @property
    def without_bins(self) -> Measures:
        """Return the measures of the words alone."""
        return Measures(self.sums)

    @cached_property
    def requested(self) -> tuple[str, ...]:
        """Return the fields that are measured on request, as they lie in a state."""
        return tuple(field for measure in self.sums for field in REQUESTED[measure])

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Return the fields of a state, as they lie in it."""
        return FIELDS + self.requested

    @cached_property
    def reals(self) -> frozenset[str]:
        """Return the fields that are float64; the others are int64."""
        return frozenset((*MOMENTS, *self.requested))

    @cached_property
    def places(self) -> dict[str, int]:
        """Return the row of each field."""
        return {field: place for place, field in enumerate(self.fields)}

    def __bool__(self) -> bool:
        return bool(self.sums) or self.bins is not None

    def __str__(self) -> str:
        return ", ".join([*self.sums, *([] if self.bins is None else [str(self.bins)])]) or "none"


ALWAYS = Measures()

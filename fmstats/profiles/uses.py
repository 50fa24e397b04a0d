"""`Uses` are the methods of a profile for which other packages work: files, verdicts, the page.

Users need not know where a profile is saved, judged or drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fmstats.errors import FmstatsError
from fmstats.output.tables import Table
from fmstats.statistic.channel_stats import ChannelStats

if TYPE_CHECKING:
    from fmstats.calibration import QParams
    from fmstats.diagnosis import Diagnosis
    from fmstats.drift import Comparison
    from fmstats.profiles.profile import Profile


class Uses(Mapping[str, ChannelStats]):
    """These methods hand the profile on."""

    @property
    def _profile(self) -> Profile:
        return cast("Profile", self)

    def save(self, path: str | Path) -> None:
        """Write it to a file, which `fmstats.load` reads. See `fmstats.storage.save`.

        Args:
            path: of the file, by custom one that ends in `.fmstats`.

        Raises:
            FmstatsError: the metadata has something that JSON has not, or the disk refuses.
        """
        from fmstats.storage import save

        save(self._profile, path)

    def to_bytes(self) -> bytes:
        """What `save` writes to a file. See `fmstats.storage.to_bytes`.

        Raises:
            FmstatsError: the metadata has something that JSON has not.
        """
        from fmstats.storage import to_bytes

        return to_bytes(self._profile)

    @staticmethod
    def from_bytes(content: bytes) -> Profile:
        """The profile of `to_bytes`. See `fmstats.storage.from_bytes`.

        Raises:
            FmstatsError: these are no bytes of a profile, or they are damaged.
        """
        from fmstats.storage import from_bytes

        return from_bytes(content)

    def diagnose(
        self,
        rules: Iterable[str] | None = None,
        thresholds: Mapping[str, float] | None = None,
        formats: Iterable[str] = (),
    ) -> Diagnosis:
        """Find what is wrong: silent, saturated and non-finite channels, scale and range.

        Args:
            rules: names of rules; None: all of `fmstats.diagnosis.RULES`.
            thresholds: numbers by name, such as `{"dead": 0.999}`.
            formats: what layers may be cast to, such as "e4m3", beside floats of 16 bits.

        Raises:
            FmstatsError: an unknown rule, threshold or format, or a number out of its range.
        """
        from fmstats.diagnosis import diagnose

        return diagnose(self._profile, rules, thresholds, formats)

    def compare(
        self,
        baseline: Profile,
        *,
        calibration: Sequence[Profile] | None = None,
        threshold: float | None = None,
        missing: str = "refuse",
        paired: bool = False,
        only_common: bool | None = None,
    ) -> Comparison:
        """Tell whether this has drifted from a baseline, and where. See `fmstats.drift.compare`.

        Args:
            baseline: what it should be like.
            calibration: three or more parts of the baseline, to tell change from chance.
            threshold: drift from this score on; None: 1.5 with calibration, 2.5 without.
            missing: what to do if they do not have the same layers: "refuse" to compare, or "drop"
                those that one of them lacks or that do not fit.
            paired: both saw the same inputs, such as two checkpoints of one model: then a score is
                the size of a change, and not a multiple of chance.
            only_common: the old way to say missing="drop".

        Raises:
            FmstatsError: other models, layers, channels, thresholds or options; too few shards;
                other inputs, if `paired`.
        """
        from fmstats.drift import compare
        from fmstats.drift.matching import read_only_common

        missing = read_only_common(only_common, missing)
        return compare(
            self._profile,
            baseline,
            calibration=calibration,
            threshold=threshold,
            missing=missing,
            paired=paired,
        )

    def qparams(
        self,
        scheme: str,
        method: str = "mse",
        *,
        per: str = "tensor",
        q: float | None = None,
        layers: str | Iterable[str] | None = None,
    ) -> QParams:
        """Return scales and zero points for codes of 8 bits. See `fmstats.calibration.calibrate`.

        Args:
            scheme: "int8", "int8-affine", "uint8", "e4m3" or "e5m2".
            method: "absmax", "percentile", "mse" or "entropy"; all but the first need histograms.
            per: "tensor": one scale a layer; "channel": one for each of its channels.
            q: of "percentile": the share of numbers that is not clipped; None: 0.9999.
            layers: names or globs of layers; None: all.

        Raises:
            FmstatsError: no such scheme, method or layer, or a histogram is missing.
        """
        from fmstats.calibration import calibrate

        return calibrate(self._profile, scheme, method, per=per, q=q, layers=layers)

    def parameter_table(self) -> Table:
        """Return a line for each parameter: its weights, gradients and updates in numbers.

        `print` shows the table, and its `rows` are dicts: parameter, channels, weight_std,
        gradient_rms, update_rms, update_ratio, nonfinite. What was not measured is None.

        Raises:
            FmstatsError: the profile is not one by `fmstats.track_parameters`.

        Examples:
            >>> import torch
            >>> model = torch.nn.Linear(4, 2, bias=False)
            >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
            >>> with fmstats.track_parameters(model, optimizer) as tracker:
            ...     model(torch.ones(8, 4)).sum().backward()
            ...     optimizer.step()
            >>> row = tracker.stats().parameter_table().rows[0]
            >>> row["parameter"], row["gradient_rms"], round(row["update_rms"], 3)
            ('weight', 8.0, 4.0)
        """
        from fmstats.profiles.updates import OF_PARAMETERS, tabulate_parameters

        if self._profile.metadata.get("of") != OF_PARAMETERS:
            raise FmstatsError(
                "parameter_table() is of a profile by track_parameters(model, optimizer); this one "
                "is of layers: see layers()"
            )
        return tabulate_parameters(self._profile.info)

    def report(self, path: str | Path, comparison: Comparison | None = None) -> None:
        """Write a page on it, which any browser shows. See `fmstats.report.write_report`.

        Args:
            path: of the file, which ends in `.html`.
            comparison: with its baseline, as `compare` gives it: the page then shows drift, too.

        Raises:
            FmstatsError: as `write_report`.
        """
        from fmstats.report import write_report

        write_report(self._profile, path, comparison)

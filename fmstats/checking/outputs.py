"""Write the files of a check: each by itself, so that one that fails costs no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmstats.checking.result import CheckResult
from fmstats.errors import FmstatsError
from fmstats.models.selection import fitting_names
from fmstats.output.files import check_place, check_suffix, write_whole
from fmstats.report import check_report, write_report
from fmstats.storage.exports import check_output, write_profile

PROM_SUFFIXES = (".prom",)  # node_exporter reads no other


@dataclass(frozen=True)
class Outputs:
    """Names the files that a check writes; None for those that nobody asks for.

    Attributes:
        profile: .fmstats, .json or .csv.
        report: .html.
        prom: .prom, for the textfile collector of Prometheus's node_exporter.
        prom_layers: names or globs of the layers that have series of their own in `prom`.
    """

    profile: Path | None = None
    report: Path | None = None
    prom: Path | None = None
    prom_layers: Sequence[str] = ()

    def check(self) -> None:
        """Refuse files that could not be written.

        Raises:
            FmstatsError: a suffix or a folder does not fit, a package is missing, or layers are
                given without a file for them.
        """
        if self.profile is not None:
            check_output(self.profile)
        if self.report is not None:
            check_report(self.report)
        if self.prom is not None:
            check_suffix(self.prom, PROM_SUFFIXES, "a file for node_exporter")
            check_place(self.prom)
            import fmstats.integrations.textfile  # noqa: F401  # needs prometheus-client
        elif self.prom_layers:
            raise FmstatsError("prom_layers (--prom-layers) needs prom (--prom)")

    def write(self, result: CheckResult) -> CheckResult:
        """Write all files; return the result with those written, and why others were not."""
        result = self._check_layers(result)
        # The last one tells monitoring whether the others could be written.
        for path, write in (
            (self.profile, _write_profile),
            (self.report, _write_report),
            (self.prom, self._write_prom),
        ):
            if path is not None:
                result = _attempt(result, path, write)
        return result

    def _write_prom(self, result: CheckResult, path: Path) -> None:
        from fmstats.integrations.textfile import render_run

        content = render_run(
            result.profile,
            result.diagnosis,
            result.comparison,
            model=result.model,
            passed=result.passed,
            seconds=result.seconds,
            conditions={outcome.condition: outcome.fails for outcome in result.outcomes},
            layers=self.prom_layers,
        )
        write_whole(path, content)

    def _check_layers(self, result: CheckResult) -> CheckResult:
        """Note names of layers that fit none: before the run nobody knows all rows."""
        known = {*result.profile, *(str(row.layer) for row in result.profile.info.values())}
        for pattern in self.prom_layers:
            try:
                fitting_names(pattern, known, "prom_layers (--prom-layers)")
            except FmstatsError as error:
                result = replace(result, problems=(*result.problems, str(error)))
        return result


def _write_profile(result: CheckResult, path: Path) -> None:
    write_profile(result.profile, path)


def _write_report(result: CheckResult, path: Path) -> None:
    write_report(result.profile, path, result.comparison)


def _attempt(
    result: CheckResult, path: Path, write: Callable[[CheckResult, Path], None]
) -> CheckResult:
    try:
        write(result, path)
    except FmstatsError as error:
        return replace(result, problems=(*result.problems, str(error)))
    return replace(result, written=(*result.written, path))

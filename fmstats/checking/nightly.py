"""Profile a model, compare, diagnose, write files, and decide: one call for every night."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from fmstats.checking.baselines import Given
from fmstats.checking.outputs import Outputs
from fmstats.checking.request import CheckRequest
from fmstats.checking.result import CheckResult
from fmstats.errors import FmstatsError
from fmstats.runs import profile as run_profile
from fmstats.runs.shards import share_of


class CheckError(FmstatsError):
    """Say which part of a check could not be done after the run, such as writing a file.

    All other parts were done.

    Attributes:
        result: what was found; its `problems` say what could not be done.

    Examples:
        >>> import fmstats, torch
        >>> first, second = torch.nn.Sequential(torch.nn.ReLU()), torch.nn.ReLU()
        >>> baseline = fmstats.profile(first, torch.rand(400, 2), progress=False)
        >>> try:
        ...     fmstats.check(second, torch.rand(400, 2), baseline=baseline, progress=False)
        ... except fmstats.CheckError as error:
        ...     print(error.result.exit_code, list(error.result.profile))
        2 ['(model)']
    """

    def __init__(self, result: CheckResult) -> None:
        super().__init__("; ".join(result.problems))
        self.result = result


def check(
    model: torch.nn.Module,
    data: object,
    *,
    baseline: Given = None,
    fail_on: str | Iterable[str] = (),
    fail_on_drift: bool = False,
    threshold: float | None = None,
    missing: str = "refuse",
    rules: Iterable[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    formats: Iterable[str] = (),
    name: str | None = None,
    out: str | Path | None = None,
    report: str | Path | None = None,
    prom: str | Path | None = None,
    prom_layers: str | Iterable[str] = (),
    **options: Any,
) -> CheckResult:
    """Run `model` over `data`, judge its feature maps, write what is asked for, and decide.

    What can be refused is refused before the run. The files are written whether the check passes
    or not; one that cannot be written keeps no other from being written.

    Args:
        model: as in `fmstats.profile`.
        data: as in `fmstats.profile`.
        baseline: a profile or several, files of profiles, or globs of files. Three or more are
            shards, which show how much profiles differ by chance.
        fail_on: conditions such as `"dead>5%,nan>0"`; the check fails if one of them holds or
            cannot be judged.
        fail_on_drift: whether the check fails if there is drift.
        threshold: it is drift from this score on; None: 1.5 with shards, 2.5 without.
        missing: what to do with layers that cannot be compared with the baseline: "refuse", or
            "drop" them.
        rules: of the diagnosis, as in `fmstats.diagnose`, like the next two.
        thresholds: numbers by name instead of the defaults.
        formats: float formats that layers may be cast to.
        name: what the summary and the label `model` of `prom` call the model; None: its class.
        out: a file for the profile: .fmstats, .json or .csv.
        report: a file for the page: .html.
        prom: a file for the textfile collector of Prometheus's node_exporter: .prom.
        prom_layers: names or globs of the layers that have series of their own in `prom`.
        **options: of `fmstats.profile`. With `group`, only rank 0 writes files.

    Returns:
        The result. Printing it shows a summary; `passed` and `exit_code` are the verdict.

    Raises:
        FmstatsError: an argument is refused, a file of the baseline cannot be read, an output
            could not be written, or the run fails.
        CheckError: after the run, the profile cannot be compared with the baseline, or a file
            cannot be written. It has the result.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        >>> model[0].bias.data = torch.tensor([-9.0, 9.0])
        >>> data = torch.rand(400, 2)
        >>> result = fmstats.check(model, data, fail_on="dead>5%,nan>0", progress=False)
        >>> str(result).splitlines()[0], result.exit_code
        ('FAILED: 1 of 2 conditions holds', 1)
    """
    request = CheckRequest.of(
        baseline=baseline,
        fail_on=fail_on,
        fail_on_drift=fail_on_drift,
        threshold=threshold,
        missing=missing,
        rules=rules,
        thresholds=thresholds,
        formats=formats,
        name=name,
        outputs=Outputs(
            None if out is None else Path(out),
            None if report is None else Path(report),
            None if prom is None else Path(prom),
            (prom_layers,) if isinstance(prom_layers, str) else tuple(prom_layers),
        ),
    )
    return run_check(model, data, request, options)


def run_check(
    model: torch.nn.Module, data: object, request: CheckRequest, options: Mapping[str, Any]
) -> CheckResult:
    """Carry out a check that was read before.

    Args:
        model: as in `check`.
        data: as in `check`.
        request: all other arguments of `check`.
        options: of `fmstats.profile`.

    Raises:
        FmstatsError: as `check`.
        CheckError: as `check`.
    """
    request.check_options(options)
    began = time.perf_counter()
    profile = run_profile(model, data, **options)
    diagnosis, outcomes = request.diagnose(profile)
    comparison, problems = None, []
    try:
        comparison = request.compare(profile)
    except FmstatsError as error:  # What was measured must not be lost.
        problems.append(str(error))
    seconds = time.perf_counter() - began
    result = CheckResult(
        profile,
        diagnosis,
        comparison,
        outcomes,
        request.fail_on_drift,
        seconds,
        request.name,
        tuple(problems),
    )
    if share_of(options.get("group")).rank == 0:
        result = request.outputs.write(result)
    if result.problems:
        raise CheckError(result)
    return result

"""`fmstats.check`: the verdict, the summary, the files, and what is refused before the run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, unseen
from torch import nn

import fmstats
from fmstats.checking import summarise
from fmstats.diagnosis import Outcome
from fmstats.diagnosis.measures import Measure
from fmstats.drift import compare
from fmstats.output import files
from fmstats.storage.exports import format_json

pytest.importorskip("jinja2", reason="needs jinja2")
pytest.importorskip("prometheus_client", reason="needs prometheus-client")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(width: int = 8) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 1)).eval()


def images(number: int = 60, seed: int = 1, factor: float = 1.0) -> torch.Tensor:
    return factor * torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def check(data: object, model: nn.Module | None = None, **options: Any) -> fmstats.CheckResult:
    return fmstats.check(model or network(), data, progress=False, **options)


@pytest.fixture(scope="module")
def shards() -> list[fmstats.Profile]:
    return [fmstats.profile(network(), images(seed=s), progress=False) for s in range(10, 14)]


class Counted(nn.Module):
    """Counts its passes, so that a test sees whether anything ran."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.passes = nn.ReLU(), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        result: torch.Tensor = self.act(x)
        return result


@pytest.mark.parametrize(
    ("options", "code", "first"),
    [
        ({}, 0, "passed: there is no condition to fail on"),
        ({"fail_on": "nan>0"}, 0, "passed: none of 1 condition holds"),
        ({"fail_on": ["nan>0", "samples<61"]}, 1, "FAILED: 1 of 2 conditions holds"),
        ({"fail_on": "nan==0,samples<61,inf>0"}, 1, "FAILED: 2 of 3 conditions hold"),
        (
            {"fail_on": "dead>5%", "thresholds": {"samples": 1e6}},
            1,
            "FAILED: 1 of 1 condition cannot be judged",
        ),
    ],
)
def test_conditions_decide(options: dict[str, Any], code: int, first: str) -> None:
    result = check(images(), **options)
    assert (result.exit_code, result.passed) == (code, code == 0)
    assert str(result).splitlines()[0] == first


@pytest.mark.parametrize(
    ("data", "fail_on_drift", "code", "first"),
    [
        (images(), True, 0, "passed: no drift"),
        (images(factor=3), True, 1, "FAILED: there is drift"),
        (images(factor=3), False, 0, "passed: there is drift, which fails the check only with"),
        (images(5), True, 2, "NO VERDICT: not enough data for a verdict on drift"),
        (images(5), False, 0, "passed: not enough data for a verdict on drift"),
    ],
)
def test_drift_decides_where_it_is_asked_to(
    shards: list[fmstats.Profile], data: object, fail_on_drift: bool, code: int, first: str
) -> None:
    result = check(data, baseline=shards, fail_on_drift=fail_on_drift)
    assert result.exit_code == code
    assert str(result).splitlines()[0].startswith(first)


def test_a_condition_that_holds_outweighs_an_unknown_drift(shards: list[fmstats.Profile]) -> None:
    result = check(images(5), baseline=shards, fail_on_drift=True, fail_on="samples<10")
    assert result.exit_code == 1
    assert str(result).splitlines()[0] == (
        "FAILED: 1 of 1 condition holds, not enough data for a verdict on drift"
    )


def test_it_finds_what_its_parts_find() -> None:
    result = check(images(), include="1", zero_tol=0.5, rules="dead")
    profile = fmstats.profile(network(), images(), include="1", zero_tol=0.5, progress=False)
    assert list(result.profile) == ["1"]
    assert result.profile["1"].zeros.tolist() == profile["1"].zeros.tolist()
    assert result.diagnosis.rules == ("dead",)


def test_several_profiles_are_shards(shards: list[fmstats.Profile]) -> None:
    for number, path in enumerate(("a.fmstats", "b.fmstats", "c.fmstats")):
        shards[number].save(path)
    whole = shards[0].merge(*shards[1:3])
    now = fmstats.profile(network(), images(), progress=False)
    calibrated = compare(now, whole, calibration=shards[:3])
    for given in (["a.fmstats", Path("b.fmstats"), shards[2]], "?.fmstats", Path("*.fmstats")):
        found = check(images(), baseline=given).comparison
        assert found is not None
        assert (found.score, found.threshold) == (calibrated.score, calibrated.threshold)
    alone = check(images(), baseline="a.fmstats", threshold=7.0).comparison
    assert alone is not None
    assert (alone.evidence and alone.evidence.shards, alone.threshold) == ((), 7.0)
    two = check(images(), baseline=shards[:2]).comparison
    assert two is not None
    assert any("2 files of a baseline do not show" in reason for reason in two.reasons)


REFUSED = [
    ({"fail_on": "dead"}, "condition 'dead' is not understood"),
    ({"fail_on": "dead>5%", "rules": "sparse"}, "condition 'dead>0.05' needs the rule 'dead'"),
    ({"rules": "deaf"}, "there is no rule 'deaf'"),
    ({"thresholds": {"deaf": 1}}, "there is no threshold 'deaf'"),
    ({"formats": "e9m9"}, "there is no format 'e9m9'"),
    ({"threshold": -1}, "threshold=-1: give a finite score above 0"),
    ({"missing": "keep"}, "missing='keep': choose 'refuse' or 'drop'"),
    ({"fail_on_drift": True}, r"fail_on_drift \(--fail-on-drift\) needs a baseline"),
    ({"baseline": "none.fmstats"}, "none.fmstats"),
    ({"baseline": "none-*.fmstats"}, "baseline 'none-.*': no file fits"),
    ({"baseline": "broken.fmstats"}, "cannot read profile 'broken.fmstats'"),
    ({"baseline": ["a.fmstats", "copy.fmstats"]}, "are the same profile: leave one out of the"),
    ({"baseline": []}, r"baseline=\[\]: give a profile or a file"),
    ({"baseline": [3]}, "baseline has a int: give profiles, files or globs"),
    ({"baseline": ["a.fmstats", "other.fmstats"]}, "layers"),
    ({"baseline": "a.fmstats", "of": "input"}, "of='input' and of='output'"),
    ({"out": "run.txt"}, "a result ends in .fmstats, .json or .csv"),
    ({"out": "no/run.fmstats"}, "there is no folder 'no'"),
    ({"report": "run.htm5"}, "a report ends in .html"),
    ({"prom": "run.txt"}, "cannot write 'run.txt': a file for node_exporter ends in .prom"),
    ({"prom": "no/run.prom"}, "there is no folder 'no'"),
    ({"prom_layers": "*"}, r"prom_layers \(--prom-layers\) needs prom"),
    ({"every": 0}, "every=0: give a whole number"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda each: str(each))
def test_what_can_be_refused_is_refused_before_the_run(
    options: dict[str, Any], message: str
) -> None:
    model = Counted().eval()
    fmstats.profile(model, torch.rand(20, 4), progress=False).save("a.fmstats")
    Path("copy.fmstats").write_bytes(Path("a.fmstats").read_bytes())
    fmstats.profile(nn.Sequential(nn.ReLU()), torch.rand(20, 4)).save("other.fmstats")
    Path("broken.fmstats").write_text("broken")
    before, model.passes = sorted(Path().iterdir()), 0
    with pytest.raises(fmstats.FmstatsError, match=message) as refused:
        check(torch.rand(20, 4), model, **options)
    assert not isinstance(refused.value, fmstats.CheckError)
    assert model.passes == 0
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("limit", [0, 1000])
def test_files_are_written_whether_it_passes_or_not(limit: int) -> None:
    result = check(
        images(), fail_on=f"samples<{limit}", out="run.fmstats", report="run.html", prom="run.prom"
    )
    assert result.passed is (limit == 0)
    assert list(map(str, result.written)) == ["run.fmstats", "run.html", "run.prom"]
    assert fmstats.load("run.fmstats").metadata["samples"] == 60
    assert "<html" in Path("run.html").read_text()
    assert f'fmstats_check_passed{{model="Sequential"}} {float(limit == 0)}' in (
        Path("run.prom").read_text()
    )
    assert str(result).splitlines()[-1] == "written: run.fmstats, run.html, run.prom"


@pytest.mark.parametrize("broken", ["run.json", "run.html", "run.prom"])
def test_a_file_that_cannot_be_written_costs_no_other(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files._replace

    def replace(path: Path, old: Any, content: bytes) -> None:
        if path.name == broken:
            raise OSError(28, "No space left on device")
        real(path, old, content)

    monkeypatch.setattr(files, "_replace", replace)
    names = ["run.json", "run.html", "run.prom"]
    with pytest.raises(fmstats.CheckError, match=f"cannot write '{broken}': No space") as error:
        check(images(), fail_on="nan>0", out=names[0], report=names[1], prom=names[2])
    result, others = error.value.result, [name for name in names if name != broken]
    assert result.exit_code == 2
    assert list(map(str, result.written)) == others
    assert all(Path(name).exists() == (name != broken) for name in names)
    assert str(result).splitlines()[:2] == [
        "INCOMPLETE: 1 part of the check not done, none of 1 condition holds",
        f"problem: cannot write '{broken}': No space left on device",
    ]
    if broken != "run.prom":  # monitoring learns of it
        assert 'fmstats_check_passed{model="Sequential"} 0.0' in Path("run.prom").read_text()


def test_a_baseline_that_does_not_fit_costs_no_result(shards: list[fmstats.Profile]) -> None:
    options = {"baseline": shards, "include": ["0", "1"], "out": "run.fmstats", "report": "r.html"}
    with pytest.raises(fmstats.CheckError, match=r"'2' .in the baseline only") as error:
        check(images(), **options)
    assert list(fmstats.load("run.fmstats")) == ["0", "1"]
    assert Path("r.html").exists()
    assert error.value.result.comparison is None
    assert error.value.result.exit_code == 2
    dropped = check(images(), missing="drop", **options)
    assert dropped.comparison is not None
    assert "1 layer not compared (2)" in str(dropped)


def test_layers_of_the_prometheus_file_that_fit_none_are_told() -> None:
    with pytest.raises(fmstats.CheckError, match=r"--prom-layers.*'reul' matches none") as error:
        check(images(), prom="run.prom", prom_layers=["1", "reul"])
    assert list(map(str, error.value.result.written)) == ["run.prom"]
    text = Path("run.prom").read_text()
    assert 'fmstats_check_passed{model="Sequential"} 0.0' in text
    assert 'layer="1"' in text


def test_the_summary_says_what_ran_and_what_was_found(shards: list[fmstats.Profile]) -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[:3] = -99
        model[2].bias[0] = math.nan
    result = check(images(), model, baseline=shards, fail_on="dead>5%,nan>0", name="nightly")
    lines = str(result).splitlines()
    assert lines[0] == (
        "FAILED: 2 of 2 conditions hold, there is drift, which fails the check only with "
        "fail_on_drift"
    )
    assert lines[1].startswith("nightly: 60 samples, 3 layers measured, ")
    assert "of the run for statistics)" in lines[1]
    by_severity = {line.split(":")[0]: line for line in lines[2:5]}
    assert "the gravest in 2: non-finite, " in by_severity["error"]
    assert "the gravest in 1: never-active, 3 of 8 channels" in by_severity["warning"]
    own = [f for f in result.diagnosis if f.severity == "warning" and f.follows is None]
    assert f"warning: {len(own)} finding" in by_severity["warning"]
    assert any(line.startswith("condition dead>0.05  holds: 0.375 (share") for line in lines)
    assert any(line.startswith("condition nan>0  holds: 2,160 ") for line in lines)
    (drift,) = [line for line in lines if line.startswith("drift: score ")]
    assert result.comparison is not None
    for row in result.comparison.top_layers(3):
        assert f"{row['layer']} ({row['score']:.4g})" in drift
    assert len(lines) <= 11


def test_the_summary_never_says_that_all_is_well_where_it_has_not_looked() -> None:
    rows = [
        {"name": "norm", "type": "LayerNorm", "status": "never fired", "reason": None},
        {"name": "head", "type": "Custom", "status": "unseen", "reason": "a custom operation"},
    ]
    profile = profile_of(layer_of(healthy()), unseen(), coverage=rows, samples=1000)
    text = summarise(profile, profile.diagnose())
    assert "findings: none in what was judged" in text
    (line,) = [each for each in text.splitlines() if each.startswith("not looked at: ")]
    assert "1 layer was not measured, or not in full (norm)" in line
    assert "operations in 1 part of the model could not be seen" in line
    assert "1 layer had too little data for " in line
    assert "switch, heavy-tails need measure='kurtosis'" in line
    assert "nothing" not in text


def test_the_summary_says_what_was_left_out_and_taken_over() -> None:
    def bad_batches() -> Any:
        yield images(10)
        yield torch.ones(2, 5)
        yield images(10, seed=2)

    batches = list(bad_batches())
    first = str(check(batches, on_bad_sample="skip", checkpoint="c.fmstats", every=2))
    assert ": 20 samples, 1 left out, such as " in first
    assert " in 1 of 2 passes" in first
    assert "from the checkpoint" not in first
    again = str(check(batches, on_bad_sample="skip", checkpoint="c.fmstats", every=2))
    assert "2 of 2 batches from the checkpoint" in again
    unknown = str(check([torch.rand(3)], nn.ReLU()))
    assert ": batches: 1, samples unknown, 1 layer measured" in unknown


def test_names_in_the_summary_are_printable() -> None:
    text = summarise(profile_of(layer_of(healthy())), profile_of().diagnose(), name="a\x1b[31m\nb")
    assert "\x1b" not in text
    assert text.count("\n") == len(text.splitlines()) - 1
    assert r"a\x1b[31m\nb: " in text


def test_the_result_is_plain_for_json(shards: list[fmstats.Profile]) -> None:
    result = check(images(), baseline=shards, fail_on="nan>0", fail_on_drift=True, out="r.json")
    found = json.loads(format_json(result.to_dict()))
    assert (found["passed"], found["exit_code"], found["name"]) == (True, 0, "Sequential")
    assert found["comparison"]["verdict"] == "no drift"
    assert found["conditions"][0]["verdict"] == "does not hold"
    assert found["diagnosis"]["layers"] == 3
    assert found["metadata"]["samples"] == 60
    assert (found["written"], found["problems"]) == (["r.json"], [])
    assert check(images()).to_dict()["comparison"] is None


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError, match="evry"):
        check(images(), evry=2)


def test_the_summary_needs_no_conditions_and_no_comparison() -> None:
    profile = fmstats.profile(network(), images(), progress=False)
    outcome = Outcome("nan>0", "does not hold", Measure(0, 0, 0, "NaN elements"))
    short = summarise(profile, profile.diagnose())
    assert short.splitlines()[0] == "passed: there is no condition to fail on"
    both = summarise(profile, profile.diagnose(), outcomes=[outcome], written=[Path("a.html")])
    assert both.splitlines()[0] == "passed: none of 1 condition holds"
    assert both.endswith("\nwritten: a.html")

"""Parts of a model whose operations cannot be followed: told, and no verdict stands on them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fmstats
from fmstats.diagnosis.conditions import read_conditions
from fmstats.report import render


class Scripted(nn.Module):
    """A model with a part that is TorchScript, and that nobody selects."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.part = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        out = self.part(F.relu(self.first(x)))
        assert isinstance(out, Tensor)
        return out


def run(model: nn.Module, **options: object) -> fmstats.Profile:
    torch.manual_seed(0)
    data = [torch.randn(100, 3) for _ in range(4)]
    return fmstats.profile(model, data, progress=False, **options)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
def test_a_scripted_part_is_told_everywhere(capsys: pytest.CaptureFixture[str]) -> None:
    profile = run(Scripted(), exclude="part")
    told = "part (RecursiveScriptModule): unseen, TorchScript runs without Python"
    assert told in capsys.readouterr().err
    assert told in str(profile)
    found = profile.diagnose()
    assert len(found.unseen) == 1
    assert told in str(found)
    assert found.to_dict()["unseen"] == list(found.unseen)
    for text in ("dead>0", "nan>0", "errors>0"):
        (condition,) = read_conditions(text)
        assert condition.judge(found.measures).verdict == "not enough data"
    assert "not seen" not in str(found.measures["samples"].reason)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is")
def test_the_report_withholds_its_verdict() -> None:
    unseen, seen = run(Scripted(), exclude="part"), run(nn.Sequential(nn.Linear(3, 4)))
    told = "operations in 1 part of the model could not be seen"
    assert "Nothing wrong in what was looked at" in render(unseen)
    assert told in render(unseen)
    assert told not in render(seen)


def test_nothing_is_unseen_that_was_left_out_on_purpose() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    for options in ({}, {"include": "0"}, {"functional": False}):
        assert not run(model, **options).diagnose().unseen


def test_operations_that_come_in_no_followed_pass_are_told() -> None:
    class Flickering(nn.Module):
        """Calls an operation in the second pass alone."""

        def __init__(self) -> None:
            super().__init__()
            self.layer, self.passes = nn.Linear(3, 4), 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            x = torch.relu(self.layer(x))
            return torch.sigmoid(x) if self.passes == 2 else x

    model = Flickering()
    with fmstats.track(model) as tracker:
        for _ in range(4):
            model(torch.randn(5, 3))
    (row,) = [row for row in tracker.coverage() if row.status == "unseen"]
    assert row.name == "(model)"
    assert "1 functional operation came in no pass that was followed" in (row.reason or "")

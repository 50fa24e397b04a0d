"""Layers that were counted without a mask that was given are told of wherever numbers are shown."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from profile_files import layer_of, profile_of
from torch import Tensor, nn

import fmstats
from fmstats.output.tables import join_blocks
from fmstats.profiles.gaps import describe_unmasked, name_unmasked
from fmstats.profiles.summary import describe_run
from fmstats.report import render

TOLD = "1 layer was counted without the mask: strided"


class Strided(nn.Module):
    """A model whose second convolution mixes the positions of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.strided = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 2, stride=2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.strided(self.plain(x))  # type: ignore[no-any-return]


def run(mismatch: str) -> fmstats.Profile:
    torch.manual_seed(0)
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :2, :2] = True
    data = [{"x": torch.randn(3, 1, 4, 4), "mask": mask}]
    return fmstats.profile(Strided(), data, mask="mask", mask_mismatch=mismatch, progress=False)


def test_it_is_told_where_a_profile_is_shown(tmp_path: Path) -> None:
    run("count").save(tmp_path / "run.fmstats")
    profile = fmstats.load(tmp_path / "run.fmstats")
    assert profile["plain"].count[0] == 3 * 4
    assert profile["strided"].count[0] == 3 * 4
    layers = profile.to_dict()["layers"]
    assert {name: layers[name]["unmasked"] for name in layers} == {"plain": 0, "strided": 1}
    assert str(profile).endswith(f"\n{TOLD}")
    assert f"\n\n{TOLD}\n\n" in join_blocks(describe_run(profile))
    found = profile.diagnose()
    assert str(found).endswith(f"\n\n{TOLD}")
    assert found.to_dict()["unmasked"] == list(found.unmasked) == ["strided"]
    page = render(profile)
    assert f"<p>{TOLD}</p>" in page
    assert "calls: 1 (1 without the mask), measured by" in page


def test_nothing_is_told_where_the_mask_fits_or_tensors_are_left_out() -> None:
    profile = run("skip")
    assert "strided" not in profile
    told = [str(profile), join_blocks(describe_run(profile)), str(profile.diagnose())]
    assert not any("without the mask" in text for text in [*told, render(profile)])
    assert not profile.diagnose().unmasked


@pytest.mark.parametrize(
    ("unmasked", "told"),
    [
        ([], ""),
        ([4], "1 layer was counted without the mask: l0"),
        ([1, 0, 4], "2 layers were counted without the mask: l0 (1 of 4 tensors), l2"),
        ([4] * 7, "7 layers were counted without the mask: l0, l1, l2, l3, l4 and 2 more"),
    ],
)
def test_the_line(unmasked: list[int], told: str) -> None:
    rows = {
        f"l{i}": layer_of(torch.ones(3, 2), calls=4, unmasked=n) for i, n in enumerate(unmasked)
    }
    assert describe_unmasked(name_unmasked(rows)) == told


def test_names_are_printable() -> None:
    profile = profile_of({"a\u202eb": layer_of(torch.ones(3, 2), unmasked=1)})
    assert r"without the mask: a\u202eb" in str(profile)

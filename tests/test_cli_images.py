"""`fmstats profile` of a folder of images: how they are normalised, described and kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fmstats

pytest.importorskip("typer", reason="needs typer")
pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")

Run = Callable[..., tuple[object, str, str]]

NET = """
from torch import nn
class Eye(nn.Sequential):
    def __init__(self): super().__init__(nn.Identity())
"""
COLOUR = (255, 51, 0)  # 1, 0.2 and 0 of the whole


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("eye.py").write_text(NET)
    Path("photos").mkdir()
    for number in range(20):
        pillow.new("RGB", (40, 30), COLOUR).save(f"photos/{number}.png")
    np.save("x.npy", np.zeros((2, 3, 8, 8), np.float32))


def profile(run: Run, *options: object) -> tuple[str, fmstats.Profile]:
    """The first line of the output, and the profile."""
    arguments = ("eye.py:Eye", "--data", "photos", "--image-size", 8, "--out", "p.fmstats")
    code, out, err = run("profile", *arguments, *options)
    assert (code, err) == (0, "")
    return out.splitlines()[0], fmstats.load("p.fmstats")


@pytest.mark.parametrize(
    ("options", "told", "mean", "std"),
    [
        ((), "ImageNet mean and std", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (("--mean", "0.5", "--std", "0.25"), "mean 0.5, std 0.25", [0.5] * 3, [0.25] * 3),
        (
            ("--mean", "-0.5,0.25,1", "--std", "1,2,4"),
            "mean -0.5,0.25,1.0, std 1.0,2.0,4.0",
            *([-0.5, 0.25, 1.0], [1.0, 2.0, 4.0]),
        ),
        (("--no-normalize",), "pixels in [0, 1]", [0.0] * 3, [1.0] * 3),
    ],
)
def test_normalisation(
    command_line: Run, options: tuple[str, ...], told: str, mean: list[float], std: list[float]
) -> None:
    title, made = profile(command_line, *options)
    assert title == f"eye.py:Eye on 20 images in 'photos', 8 px, {told}"
    expected = (np.array(COLOUR) / 255 - mean) / std
    np.testing.assert_allclose(made["0"].mean, expected, rtol=1e-5)
    assert made.metadata["inputs"] == {"image_size": 8, "resize": 9, "mean": mean, "std": std}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mean", "0.5"), "--mean is given without --std: give both, or neither"),
        (("--std", "0.5"), "--std is given without --mean: give both, or neither"),
        (("--no-normalize", "--std", "0.5"), "--no-normalize excludes --mean and --std"),
        (("--mean", "0.5,0.5", "--std", "1"), "--mean '0.5,0.5': give three finite numbers, such"),
        (("--mean", "half", "--std", "1"), "--mean 'half': give three finite numbers, such"),
        (("--mean", "", "--std", "1"), "--mean '': give three finite numbers, such"),
        (("--mean", "0", "--std", "nan"), "--std 'nan': give three finite numbers, such"),
        (("--mean", "0", "--std", "1,0,1"), "--std '1,0,1': give numbers above 0"),
        (("--mean", "0", "--std=-1"), "--std '-1': give numbers above 0"),
    ],
)
def test_mistakes(command_line: Run, options: tuple[str, ...], message: str) -> None:
    code, out, err = command_line("profile", "eye.py:Eye", "--data", "photos", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")


@pytest.mark.parametrize("options", [("--no-normalize",), ("--mean", "0.485", "--std", "0.229")])
def test_data_without_pixels(command_line: Run, options: tuple[str, ...]) -> None:
    code, out, err = command_line("profile", "eye.py:Eye", "--data", "x.npy", *options)
    assert (code, out) == (2, "")
    assert err.startswith(
        "error: --mean, --std and --no-normalize are for images, and --data 'x.npy' is neither a "
        "folder of images nor an image"
    )


def test_the_help_tells_what_is_done(command_line: Run) -> None:
    _, out, _ = command_line("profile", "--help")
    words = " ".join(out.split())
    assert "normalised by ImageNet's mean and std by default." in words
    assert "ImageNet's, 0.485,0.456,0.406." in words


def test_compare_tells_the_cause(command_line: Run) -> None:
    profile(command_line, "--no-normalize")
    Path("p.fmstats").rename("old.fmstats")
    profile(command_line, "--image-size", 16, "--no-normalize")
    code, out, _ = command_line("compare", "p.fmstats", "old.fmstats")
    assert code == 0
    assert "the images were prepared otherwise: image_size 16 and 8; resize 18 and 9" in out
    code, _, _ = command_line("merge", "p.fmstats", "old.fmstats", "--out", "both.fmstats")
    assert code == 0
    both = fmstats.load("both.fmstats").metadata
    assert "inputs" not in both
    assert "inputs" in both["differs"]

"""`fmstats visualize`: files written, and one line for every mistake."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("typer", reason="needs typer")
pytest.importorskip("matplotlib", reason="needs matplotlib")
pytest.importorskip("PIL", reason="needs Pillow")
from PIL import Image

import fmstats.commands.visualize  # noqa: F401

NET = """
import sys
from torch import nn
def make():
    print("made", file=sys.stderr)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "some_picture_net.py").write_text(NET)
    Image.fromarray(np.arange(1200).reshape(20, 20, 3).astype(np.uint8)).save("photo.png")

    yield partial(command_line, "visualize", "some_picture_net.py:make", "--image", "photo.png")
    for name in [name for name in sys.modules if "some_picture_net" in name]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--layer", "0", "--max-channels", "2", "--order", "mean", "--scale", "channel"), "o.svg"),
        (("--layer", "1", "--overlay", "3", "--cmap", "cividis"), "o.png"),
        (("--hierarchy",), "o.pdf"),
        (("--hierarchy", "--layer", "2", "--layer", "0", "--max-channels", "1"), "o.PNG"),
    ],
)
def test_pictures_are_written(run, options: tuple[str, ...], name: str) -> None:
    code, out, _ = run(*options, "--image-size", "16", "-o", name)
    assert (code, out) == (0, f"Written to {name}\n")
    assert Path(name).stat().st_size > 2000


@pytest.mark.parametrize(
    ("options", "message", "made"),
    [
        (("--layer", "0", "-o", "a.jpg"), "a picture ends in .png, .pdf or .svg", False),
        (("--layer", "0", "-o", "none/a.png"), "there is no folder", False),
        (("--layer", "0", "--cmap", "virdis", "-o", "a.png"), "closest: viridis", False),
        (("-o", "a.png"), "--layer was given 0 times", False),
        (("--layer", "0", "--layer", "1", "-o", "a.png"), "--layer was given 2 times", False),
        (("--hierarchy", "--overlay", "1", "-o", "a.png"), "exclude each other", False),
        (("--layer", "0", "--resize", "9", "-o", "a.png"), "at most resize 9", False),
        (("--layer", "x", "-o", "a.png"), "layer 'x' is none of the 4 modules", True),
        (("--layer", "0", "--order", "size", "-o", "a.png"), "order='size': choose from", True),
        (("--layer", "0", "--overlay", "4", "-o", "a.png"), "none of them 4", True),
        (("--image", "nowhere.png", "--layer", "0", "-o", "a.png"), "cannot be read", True),
    ],
)
def test_mistakes(run, options: tuple[str, ...], message: str, made: bool) -> None:
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert message in err
    assert ("made" in err) == made
    assert not Path("a.png").exists()

"""Figures in files: whole or not at all, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmstats.errors import FmstatsError
from fmstats.pictures.files import check_picture, write_figure


@pytest.mark.parametrize(
    ("name", "head"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml")]
)
def test_each_format(tmp_path: Path, name: str, head: bytes) -> None:
    pytest.importorskip("matplotlib")
    from fmstats.pictures.canvas import Sheet

    sheet = Sheet(2, 1)
    sheet.headline("a")
    for copy in ("1", "2"):
        write_figure(sheet.figure, tmp_path / (copy + name))
    first, second = sorted(tmp_path.iterdir())
    assert first.read_bytes().startswith(head)
    if not name.endswith("SVG"):  # whose ids are drawn by lot
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "a picture ends in .png, .pdf or .svg"),
        ("a", "a picture ends in"),
        ("none/a.png", "there is no folder"),
        ("folder.png", "it is a folder"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(FmstatsError, match=message):
        check_picture(tmp_path / name)

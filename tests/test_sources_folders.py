"""Each real file of a folder is found once, by whatever links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fmstats.errors import FmstatsError
from fmstats.sources import open_data
from fmstats.sources.folders import find_images

pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")


def found(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images(folder)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "b" / "c").mkdir(parents=True)
    for name in ("x.png", "b/y.JPG", "b/c/z.gif", "b/notes.txt", ".hidden.png"):
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


def test_links_to_folders_above(folder: Path) -> None:
    (folder / "a").symlink_to(folder)
    (folder / "b" / "c" / "up").symlink_to("../..")
    (folder / "b" / "c" / "self").symlink_to("self")
    (folder / "a.png").symlink_to("a.png")
    assert found(folder) == ["a.png", "b/c/z.gif", "b/y.JPG", "x.png"]


def test_several_ways_to_one_file(folder: Path) -> None:
    (folder / "0.png").symlink_to("x.png")
    (folder / "a").symlink_to("b/c")
    (folder / "b" / "c" / "w.png").symlink_to("../../x.png")
    assert found(folder) == ["b/c/z.gif", "b/y.JPG", "x.png"]


def test_files_elsewhere_are_reached_by_the_first_link(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    for name in ("1.png", "2.png"):
        (outside / name).write_bytes(b"")
    (folder / "m.png").symlink_to(outside / "1.png")
    (folder / "l.png").symlink_to(outside / "1.png")
    assert found(folder) == ["b/c/z.gif", "b/y.JPG", "l.png", "x.png"]
    (folder / "p").symlink_to(outside)
    (folder / "o").symlink_to(outside)
    assert found(folder) == ["b/c/z.gif", "b/y.JPG", "o/1.png", "o/2.png", "x.png"]
    assert [path.name for path in find_images(folder / "p")] == ["1.png", "2.png"]


def test_hidden_folders_are_left_out(folder: Path) -> None:
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "x.png").write_bytes(b"")
    assert found(folder) == ["b/c/z.gif", "b/y.JPG", "x.png"]
    assert found(folder / ".thumbnails") == ["x.png"]


def test_a_folder_that_cannot_be_read_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("c"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FmstatsError, match=r"folder '.*/b/c' cannot be read: Permission denied"):
        find_images(folder)


def test_what_is_no_file_is_told(folder: Path) -> None:
    for name in ("x.png", "b/y.JPG", "b/c/z.gif"):
        (folder / name).unlink()
    os.mkfifo(folder / "pipe.png")
    (folder / "lost.png").symlink_to("nowhere")
    source = open_data(folder, on_bad_sample="skip")
    assert list(source) == []
    lost, pipe = source.skipped.entries
    assert "lost.png' cannot be read: FileNotFoundError" in lost
    assert pipe.endswith("pipe.png' cannot be read: it is no file")


def test_a_message_names_the_usual_suffixes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"")
    message = r"1 files, none ends in \.jpg, \.jpeg, \.png, .*\.gif, .* and \d\d more$"
    with pytest.raises(FmstatsError, match=message):
        find_images(tmp_path)

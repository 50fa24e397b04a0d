"""Telling files apart by what is in them."""

from __future__ import annotations

from pathlib import Path

from fmstats.files import find_repeated


def test_files_of_the_same_content(tmp_path: Path) -> None:
    a, b, c, d = (tmp_path / name for name in "abcd")
    a.write_bytes(b"x" * 300_000)
    b.write_bytes(b"x" * 299_999 + b"y")  # differs at its end alone
    c.write_bytes(b"x" * 299_999)
    d.write_bytes(a.read_bytes())
    assert find_repeated([a, b, c]) is None
    assert find_repeated([b, a, c, d]) == (a, d)
    assert find_repeated([b, b]) == (b, b)
    assert find_repeated([tmp_path / "absent", tmp_path / "absent"]) is None

"""Write a profile as one HTML page that needs no network and no other file.

`packing` makes the numbers of the channels small, `page` says what is on the page, `writing` fills
the templates of assets/ with it. docs/report.md shows a page and says what is in it.
"""

from __future__ import annotations

from fmstats.report.writing import check_report, render, write_report

__all__ = ["check_report", "render", "write_report"]

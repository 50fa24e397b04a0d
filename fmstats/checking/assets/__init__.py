"""Hold alert rules for Prometheus and a dashboard for Grafana: they read what `prom` writes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fmstats.errors import FmstatsError
from fmstats.output.files import check_place, write_whole

NAMES = ("alerts.yml", "dashboard.json")


def write_assets(folder: Path) -> list[Path]:
    """Write the rules and the dashboard into a folder; return their paths.

    Raises:
        FmstatsError: there is no such folder, the disk refuses, or one of the files is there: it
            may have been changed, and stays as it is.
    """
    paths = [folder / name for name in NAMES]
    for path in paths:
        check_place(path)
        if path.exists():
            raise FmstatsError(f"{str(path)!r} is there already: remove it, or choose a folder")
    for path in paths:
        write_whole(path, files(__name__).joinpath(path.name).read_bytes())
    return paths

"""What does merging the files of many shards take?

    python benchmarks/bench_merge.py [--quick] [--json FILE]

Shards of a ResNet-50, each of its leaves watched, as `Profile.save` writes them: `s`, all of them
by `fmstats.merge_files`, median of the rounds; `/read`, that over reading their bytes and doing
nothing with them, in turn; `/plain`, of shards with a histogram of each layer as well, the time
over that of the shards without, in turn. The files are in the page cache.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from models import MODELS

import fmstats

DISTINCT = 8  # shards; the others are copies
WIDTHS = (8, 10, 12, 8, 10, 10, 10, 14, 10)


def write_shards(folder: Path, number: int, measure: str | None = None) -> list[Path]:
    """Write the profiles of so many shards, a file each."""
    folder.mkdir()
    made, _ = MODELS["ResNet-50"]()
    model = made.eval()
    contents = []
    for seed in range(DISTINCT):
        torch.manual_seed(seed)
        tracked = fmstats.track(model, measure=measure, backend="torch")
        with tracked as tracker, torch.inference_mode():
            model(torch.randn(1, 3, 64, 64))
        path = folder / "shard.fmstats"
        tracker.stats().save(path)
        contents.append(path.read_bytes())
    paths = [folder / f"{i:05}.fmstats" for i in range(number)]
    for i, path in enumerate(paths):
        path.write_bytes(contents[i % DISTINCT])
    return paths


def read(paths: Sequence[Path]) -> None:
    """Read the files, which any way to merge must do at least."""
    for path in paths:
        path.read_bytes()


def measure(number: int, rounds: int) -> dict[str, Any]:
    """Return a row: seconds of both ways (medians), and the median of their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shards(Path(folder) / "plain", number)
        measured = write_shards(Path(folder) / "measured", number, "histogram")
        profile = fmstats.load(paths[0])
        size, measured_size = (shards[0].stat().st_size for shards in (paths, measured))
        ways: dict[str, Callable[[], object]] = {
            "merge": lambda: fmstats.merge_files(paths),
            "measured": lambda: fmstats.merge_files(measured),
            "read": lambda: read(paths),
        }
        seconds = time_in_turn(ways, rounds)
    return {
        "files": number,
        "layers": len(profile),
        "channels": sum(stats.channels for stats in profile.values()),
        "MB": size / 1e6,
        "s": median(seconds["merge"]),
        "read_s": median(seconds["read"]),
        "ratio": ratio(seconds, "merge", "read"),
        "histograms_MB": measured_size / 1e6,
        "histograms_ratio": ratio(seconds, "measured", "merge"),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a line per number of files."""
    options = options_of(__doc__ or "").parse_args(argv)
    rows = []
    titles = ("files", "layers", "channels", "MB each", "s", "read s", "/read")
    print_line((*titles, "MB with bins", "/plain"), WIDTHS)
    for number in (50,) if options.quick else (100, 1000):
        rows.append(measure(number, rounds=3))
        print_line([rows[-1][key] for key in rows[-1]], WIDTHS)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

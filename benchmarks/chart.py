"""Draw what bench_model.py wrote: how much slower does each way make each model?

    python benchmarks/chart.py [build/bench/model.json] [docs/overhead.svg] [--malloc kept]

A group of bars a model, a colour a way; figures above the bars that do not fit. Colours are those
of Okabe and Ito 2008, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {
    "empty": "#999999",
    "fmstats": "#0072B2",
    "ao per channel": "#56B4E9",
    "var_mean compiled, static": "#009E73",
    "seed compiled, static": "#F0E442",
    "var_mean": "#E69F00",
    "seed": "#D55E00",
    "welford-torch": "#CC79A7",
}
TOP = 4.0  # times the bare model; taller bars are cut and say how tall they are


def ratios_of(rows: Sequence[Mapping[str, Any]], malloc: str) -> dict[str, dict[str, float]]:
    """Time over the bare model's, by way and model, in the order of `COLOURS`."""
    found: dict[str, dict[str, float]] = {way: {} for way in COLOURS}
    for row in rows:
        if row.get("malloc") == malloc and row["way"] in found:
            found[row["way"]][row["model"]] = row["ratio"]
    return {way: ratios for way, ratios in found.items() if ratios}


def draw(ratios: Mapping[str, Mapping[str, float]], subtitle: str, path: Path) -> None:
    """Write the chart as SVG, the same bytes for the same figures."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "fmstats", "svg.fonttype": "path", "font.size": 9})
    import matplotlib.pyplot as plt

    models = list(dict.fromkeys(model for way in ratios.values() for model in way))
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.85 / len(ratios)
    for index, (way, by_model) in enumerate(ratios.items()):
        for place, model in enumerate(models):
            if model not in by_model:
                continue
            x = place + (index - (len(ratios) - 1) / 2) * width
            height = min(by_model[model], TOP) - 1
            label = way if place == models.index(next(iter(by_model))) else None
            axes.bar(x, height, width, bottom=1, color=COLOURS[way], label=label)
            if by_model[model] > TOP:
                text = f"{by_model[model]:.1f}"
                axes.text(x, TOP, text, ha="center", va="bottom", fontsize=7, rotation=90)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(models)), models)
    axes.set_ylabel("time of a forward pass, bare model = 1")
    axes.set_ylim(min(1.0, *(r for way in ratios.values() for r in way.values())), TOP * 1.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(subtitle, fontsize=9)
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the chart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("json", type=Path, nargs="?", default=Path("build/bench/model.json"))
    parser.add_argument("svg", type=Path, nargs="?", default=Path("docs/overhead.svg"))
    parser.add_argument("--malloc", default="kept", help="which of its tables (default: kept)")
    options = parser.parse_args(argv)
    if not options.json.is_file():
        parser.error(f"{options.json} is not there: run `make bench` first")
    written = json.loads(options.json.read_text())
    ratios = ratios_of(written["rows"], options.malloc)
    if not ratios:
        parser.error(f"{options.json} has no figures for malloc {options.malloc!r}")
    machine = written["machine"]
    subtitle = (
        f"every leaf module watched; {machine['processor']}, {machine['threads']} threads, "
        f"torch {machine['torch']}, commit {machine['commit'][:9]}, malloc {options.malloc}"
    )
    draw(ratios, subtitle, options.svg)
    print(f"wrote {options.svg}")


if __name__ == "__main__":
    main()

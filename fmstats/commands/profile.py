"""Run `fmstats profile`: measure a model on a data set."""

from __future__ import annotations

from fmstats.commands.app import (
    CsvOption,
    DepthOption,
    JsonOption,
    SortOption,
    TopOption,
    app,
    keep_lines,
    print_profile,
    refuse_both_formats,
)
from fmstats.commands.option_sets import spread_options
from fmstats.commands.resuming import describe_resumed
from fmstats.commands.running import OutOption, RunOptions, launched
from fmstats.commands.tracking import TrackingOptions
from fmstats.output.tables import find_column
from fmstats.output.terminal import print_blocks
from fmstats.profiles.columns import choose_columns
from fmstats.profiles.measured import name_measured
from fmstats.profiles.summary import choose_layers
from fmstats.runs import profile as run_profile
from fmstats.statistic.measures import Measures
from fmstats.storage.exports import check_output, write_profile

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats profile net.py:make_net --weights net.pth --data photos/",
            "fmstats profile torchvision:resnet50 --weights r50.pth --data val/ --device cuda",
            "fmstats profile net.py:make_net --data photos/ --mean 0.5 --std 0.5",
            "fmstats profile nets:Net --data x.npy --include 'blocks.*' --exclude '*.drop'",
            "fmstats profile net.pt2 --data loader.py:make_loader --limit 5000 --out profile.json",
            "fmstats profile nets:Net --data val/ --checkpoint run.fmstats --on-bad-sample skip",
            "fmstats profile nets:Net --data x.npy --depth 2 --sort sparsity --top 10",
            "fmstats profile transformers:bert --data loader.py:make_loader --mask auto",
            "torchrun --nproc-per-node 4 -m fmstats profile nets:Net --data val/ --device cuda",
        ),
        keep_lines(
            "A function given as MODEL or DATA is called without arguments:",
            "def make_loader():  # in loader.py",
            "    return DataLoader(dataset, batch_size=64)  # (x, labels): the labels are dropped",
        ),
    ]
)


@app.command(epilog=_EXAMPLES)
@spread_options
def profile(
    run: RunOptions,
    tracking: TrackingOptions,
    out: OutOption = None,
    depth: DepthOption = None,
    sort: SortOption = None,
    top: TopOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Run MODEL over DATA and measure its layers.

    Prints one row per layer, what is wrong, and which layers were not measured. Exit codes: 0:
    done. 2: the request or the data is wrong. 130: interrupted.
    """
    # Before the run: an hour of work must not end in a misspelt folder or column.
    refuse_both_formats(as_json, as_csv)
    if sort is not None:
        measures = Measures.of([choice.value for choice in tracking.measure or ()])
        find_column(choose_columns(name_measured([measures])), sort.removeprefix("-"))
    if out is not None:
        check_output(out)
    with launched(run, tracking, out) as launch:
        result = run_profile(launch.model, launch.source, **launch.arguments)
        if not launch.speaks:
            return
        if out is not None:  # First: a pipe that breaks must not cost the result.
            write_profile(result, out)
        table = choose_layers(result, depth=depth, sort=sort, top=top)
        title = [
            f"{run.model} on {launch.source.description}",
            *describe_resumed(result, run.checkpoint, run.resume),
        ]
        print_profile(result, table, title, as_json=as_json, as_csv=as_csv)
        if out is not None and not (as_json or as_csv):
            print_blocks("", f"Written to {out}")

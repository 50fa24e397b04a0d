"""Run `fmstats analyze`: show the cost of each layer without running the model on data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fmstats.analysis import Analysis
from fmstats.analysis import analyze as run_analysis
from fmstats.analysis.rows import COLUMNS as ROW
from fmstats.analysis.text import COLUMNS, format_markdown, make_table
from fmstats.commands.app import (
    CsvOption,
    DepthOption,
    JsonOption,
    ModelArgument,
    TopOption,
    app,
    keep_lines,
    load_network,
    refuse_both_formats,
    sort_option,
)
from fmstats.commands.completion import complete_gpus
from fmstats.errors import FmstatsError
from fmstats.output.files import check_place, check_suffix, encode_text, write_whole
from fmstats.output.tables import Block, Table
from fmstats.output.terminal import print_blocks, print_data
from fmstats.storage.exports import format_csv, format_json

_INPUT = re.compile(r"(?:(?P<name>[^\W\d]\w*)=)?(?P<size>\d+(?:[,x]\d+)*)(?::(?P<dtype>\w+))?")
_SUFFIXES = (".json", ".csv", ".md")

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats analyze net.py:make_net --input 1,3,224,224",
            "fmstats analyze torchvision:resnet50 --input 8,3,224,224 --depth 2 --macs",
            "fmstats analyze transformers:bert --input input_ids=1,128:int64",
            "fmstats analyze nets:Net --input 1,3,64,64 --gpu H100 --out layers.csv",
            "fmstats analyze nets:Net --input 1,3,64,64 --columns name,params,traffic_bytes",
            "fmstats analyze nets:Net --input 1,3,64,64 --sort params --top 5 --json",
        ),
        "No data is needed: MODEL runs on fake tensors, which have shapes and no values.",
    ]
)


@app.command(epilog=_EXAMPLES)
def analyze(
    model: ModelArgument,
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="[NAME=]N,N,...[:DTYPE]",
            help="Size of an input, the batch included; repeat it for several inputs. An input "
            "with a name is passed as a keyword argument.",
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="DTYPE",
            help="Dtype of inputs that have no :DTYPE, e.g. int64; default: that of MODEL.",
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="meta computes nothing; cpu, cuda, ... run a model whose shapes depend on values."
        ),
    ] = "meta",
    batch_dim: Annotated[
        int | None,
        typer.Option(
            metavar="DIM",
            help="The dim along which samples are stacked; default: found from layers and inputs.",
        ),
    ] = None,
    depth: DepthOption = None,
    sort: Annotated[str | None, sort_option(COLUMNS)] = None,
    top: TopOption = None,
    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Columns of the table, by name.")
    ] = None,
    macs: Annotated[bool, typer.Option("--macs", help="Show MACs instead of FLOPs.")] = False,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Say for each layer whether compute or memory bounds it on this GPU, e.g. H100.",
            autocompletion=complete_gpus,
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Show totals and stages without the table.")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="Show only the stages: resolution and channels.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the table as .json, .csv or .md; .json has totals and stages, too.",
        ),
    ] = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Say what each layer of MODEL costs.

    Prints shapes, parameters, FLOPs and memory, one row per layer in the order of execution; then
    totals and stages.
    """
    refuse_both_formats(as_json, as_csv)
    if out is not None:
        _check_output(out)
    sizes, dtypes = _read_inputs(inputs, dtype)
    chosen = None if columns is None else [name.strip() for name in columns.split(",")]
    found = run_analysis(
        load_network(model, None),
        input_size=sizes,
        dtype=dtypes,
        device=device,
        batch_dim=batch_dim,
        macs=macs,
        gpu=gpu,
    )
    # Before anything is printed: a column may be unknown.
    table = make_table(
        found.rows,
        found.parts,
        depth=depth,
        columns=chosen,
        macs=found.macs,
        sort=sort,
        top=top,
    )
    if out is not None:
        write_whole(out, encode_text(_format(found, table, out.suffix.lower())))
    if as_json or as_csv:
        print_data(_format(found, table, ".json" if as_json else ".csv"))
        return
    blocks: list[Block] = [*found.summary_blocks()]
    if stages:
        blocks = [*found.stages.blocks()]
    elif table.rows and not summary:
        blocks = [table, "", *blocks]
    written = [] if out is None else ["", f"Written to {out}"]
    title = f"{model} on {', '.join(inputs)}"
    print_blocks(title, "", *blocks, *written, elsewhere="--json")


def _read_inputs(texts: list[str], dtype: str | None) -> tuple[Any, Any]:
    """Return sizes and dtypes as `fmstats.analyze` takes them: lists, or dicts by name."""
    default = None if dtype is None else _read_dtype(dtype, "--dtype")
    names: list[str | None] = []
    sizes: list[tuple[int, ...]] = []
    dtypes: list[torch.dtype | None] = []
    for text in texts:
        match = _INPUT.fullmatch(text)
        if match is None:
            raise FmstatsError(
                f"--input {text!r} is not a size: write 1,3,224,224, or NAME=1,128 for a keyword "
                "argument, with :int64 behind it for a dtype"
            )
        names.append(match["name"])
        sizes.append(tuple(map(int, re.split("[,x]", match["size"]))))
        own = match["dtype"]
        dtypes.append(default if own is None else _read_dtype(own, f"--input {text!r}"))
    if not any(names):
        return sizes, dtypes
    if None in names or len(set(names)) < len(names):
        raise FmstatsError(
            f"--input {' --input '.join(texts)}: give each input a name of its own, or none a name"
        )
    return dict(zip(names, sizes, strict=True)), dict(zip(names, dtypes, strict=True))


def _read_dtype(name: str, option: str) -> torch.dtype:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise FmstatsError(
            f"{option}: there is no dtype {name!r}: choose from float32, float16, bfloat16, "
            "float64, int64, int32, bool, ..."
        )
    return dtype


def _check_output(path: Path) -> None:
    check_suffix(path, _SUFFIXES, "an analysis")
    check_place(path)


def _format(found: Analysis, table: Table, suffix: str) -> str:
    if suffix == ".md":
        return format_markdown(table) + "\n"
    if suffix == ".csv":
        return format_csv(table.rows, ROW)
    return format_json(found.to_dict(table.rows))

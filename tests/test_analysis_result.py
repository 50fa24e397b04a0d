"""What is printed (golden files) and exported.

FMSTATS_OVERWRITE_GOLDEN=1 writes the golden files anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import analysis_models
import pytest
import torch
from test_analysis_formulas import Doing
from torch import nn

import fmstats
from fmstats.analysis import text
from fmstats.analysis.rows import COLUMNS
from fmstats.errors import FmstatsError

GOLDEN = Path(__file__).parent / "golden" / "analysis"


def vgg() -> fmstats.Analysis:
    return fmstats.analyze(analysis_models.vgg_block(), input_size=(1, 3, 224, 224), gpu="H100")


def odd() -> fmstats.Analysis:
    """What else a table has to show: a block, what never ran, no formula, a note."""
    net = nn.Sequential(
        nn.MultiheadAttention(8, 2, batch_first=True),
        Doing(lambda pair: torch.linalg.svd(pair[0]).Vh[:, :4, :5]),
        nn.LSTM(5, 8),
    )
    net[0].forward = lambda x, call=net[0].forward: call(x, x, x)  # type: ignore[method-assign]
    return fmstats.analyze(net, input_size=(2, 4, 8))


PRINTED = {
    "vgg.txt": lambda: str(vgg()),
    "vgg-columns.txt": lambda: vgg().table(columns=COLUMNS),
    "vgg.md": lambda: vgg().to_markdown(),
    "odd.txt": lambda: str(odd()),
    "mobilenet-depth-2.txt": lambda: analysis_models.analyzed("MobileNetV2").table(depth=2),
    "densenet-depth-1.txt": lambda: analysis_models.analyzed("DenseNet-121").table(depth=1),
    "resnet-50-summary.txt": lambda: analysis_models.analyzed("ResNet-50").summary(),
}


@pytest.mark.parametrize("name", PRINTED)
def test_golden(name: str) -> None:
    printed = PRINTED[name]() + "\n"
    path = GOLDEN / name
    if os.environ.get("FMSTATS_OVERWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printed)
    assert printed == path.read_text()


def test_macs_replace_flops() -> None:
    model = nn.Linear(4, 4)
    shown = fmstats.analyze(model, input_size=(2, 4), macs=True)
    assert "MACs" in shown.table().splitlines()[0]
    assert shown.table().splitlines()[1].split()[4] == "32"
    assert fmstats.analyze(model, input_size=(2, 4)).table().splitlines()[1].split()[4] == "64"
    assert shown.totals["flops"] == 64


def test_depth_adds_up_blocks() -> None:
    found = fmstats.analyze(
        nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2)), input_size=(3, 4)
    )
    lines = found.table(depth=1, columns=("name", "type", "params", "macs", "output_shape"))
    assert [line.split() for line in lines.splitlines()[1:]] == [
        ["0", "Sequential", "3x8", "40", "96"],
        ["1", "Linear", "3x2", "18", "48"],
    ]
    assert found.table(depth=9) == found.table()
    with pytest.raises(FmstatsError, match="depth=0: give 1 or more"):
        found.table(depth=0)
    with pytest.raises(
        FmstatsError, match=r"there is no column 'colour'; choose from layer \(name\), type"
    ):
        found.table(columns=["colour"])


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_depth_has_the_same_sums(depth: int) -> None:
    from fmstats.analysis.text import roll_up

    found = analysis_models.analyzed("MobileNetV2")
    rolled = roll_up(found.rows, depth, found.parts)
    for field in ("params", "flops", "activation_bytes", "traffic_bytes"):
        assert sum(row[field] for row in rolled) == found.totals[field]
    assert len(rolled) == len({tuple(row.name.split(".")[:depth]) for row in found.rows})


def test_dict_is_ready_for_json() -> None:
    found = vgg()
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["totals"] == found.totals
    assert content["rows"][0]["output_shape"] == [1, 64, 224, 224]
    assert [tuple(row) for row in content["rows"]] == [COLUMNS] * len(found)
    assert content["stages"][1]["resolution"] == [112, 112]
    assert content["stage_breaks"][0]["layer"] == "9"
    assert content["uncounted"][0]["kind"] == "cheap"
    assert (content["model"], content["notes"]) == ("Sequential", [])


def test_rows_are_found_by_name() -> None:
    found = vgg()
    assert found["5"].params == 73_856
    with pytest.raises(KeyError, match="no layer '55'; closest: "):
        found["55"]
    assert repr(found).startswith("Analysis(Sequential, 10 layers)\nlayer ")


def test_pandas() -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    found = vgg()
    frame = found.to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert frame["flops"].sum() == found.totals["flops"]
    assert frame["name"].tolist() == [row.name for row in found.rows]


def test_a_title_is_that_of_one_column() -> None:
    """`--sort` takes titles, too."""
    titles = [column.title for column in text.COLUMNS]
    assert len(set(titles)) == len(titles)


def test_join_with_a_profile() -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    )
    x = torch.randn(5, 3, 8, 8)
    found = fmstats.analyze(model, x)
    joined = found.join(fmstats.profile(model, x, include=["0", "1", "2"], progress=False))
    assert joined["name"].tolist() == ["0", "1", "2.0", "2.1", "2"]
    assert joined["type"].tolist() == ["Conv2d", "ReLU", "Flatten", "Linear", "Sequential"]
    first = joined.iloc[0]
    assert (first["params"], first["output_shape"], first["channels"]) == (112, (5, 4, 6, 6), 4)
    assert first["count"] == first["activation_elements"] == 5 * 4 * 36
    assert joined.loc[1, "sparsity"] > 0
    assert math.isnan(joined.loc[2, "mean"])
    assert math.isnan(joined.loc[4, "flops"])


def test_pandas_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(FmstatsError, match=re.escape("to_pandas() needs pandas: pip install")):
        vgg().to_pandas()


def test_inputs_without_a_batch() -> None:
    class Counting(nn.Module):
        def forward(self, n: int) -> torch.Tensor:
            return torch.ones(n)

    assert "(0 FLOPs) for a batch of unknown size\n" in fmstats.analyze(Counting(), 3).summary()

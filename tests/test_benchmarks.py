"""The benchmarks compare like with like, and judge as they say. Nothing here is timed."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats

bench_first_pass = importlib.import_module("bench_first_pass")
bench_compile = importlib.import_module("bench_compile")
bench_hook = importlib.import_module("bench_hook")
bench_masks = importlib.import_module("bench_masks")
bench_model = importlib.import_module("bench_model")
bench_parameters = importlib.import_module("bench_parameters")
chart = importlib.import_module("chart")
compare = importlib.import_module("compare")
interleave = importlib.import_module("interleave")
models = importlib.import_module("models")
rivals = importlib.import_module("rivals")

BENCHMARKS = Path(interleave.__file__).parent
SCRIPTS = (
    *(
        "bench_kernel",
        "bench_few",
        "bench_masks",
        "bench_histogram",
        "bench_hook",
        "bench_model",
        "bench_parameters",
        "bench_first_pass",
    ),
    *("bench_memory", "bench_calibration", "compare", "chart"),
)
ON_TENSORS = [name for name, rival in rivals.RIVALS.items() if rival.start]


def need(name: str) -> object:
    """A rival, or a skip that says what is missing."""
    rival = rivals.RIVALS[name]
    why = rival.why_not()
    if why:
        pytest.skip(f"{name} ({rival.package}): {why}")
    return rival


def test_ratio_is_the_median_of_the_rounds() -> None:
    # The machine was busy in the second round; the medians' ratio would be 1.5.
    seconds = {"a": [2.0, 30.0, 3.0], "b": [1.0, 15.0, 2.0]}
    assert interleave.ratio(seconds, "a", "b") == 2.0
    with pytest.raises(ValueError, match="zip"):
        interleave.ratio({"a": [1.0], "b": [1.0, 2.0]}, "a", "b")


def test_ways_take_turns() -> None:
    calls: list[str] = []
    ways = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = interleave.time_in_turn(ways, rounds=3, least=0.0)
    assert "".join(calls) == "aabb" + "ab" * 3  # two calls of each to learn how long it takes
    assert {name: len(s) for name, s in seconds.items()} == {"a": 3, "b": 3}


def test_json_names_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    interleave.write_json(path, [{"bytes": 4}])
    written = json.loads(path.read_text())
    assert written["rows"] == [{"bytes": 4}]
    assert written["machine"]["torch"] == torch.__version__
    assert {"processor", "commit", "malloc", "threads"} <= set(written["machine"])


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [(1.051, "SLOWER"), (1.05, ""), (1.0, ""), (0.96, ""), (0.95, "faster")],
)
def test_more_than_five_percent_is_flagged(ratio: float, verdict: str) -> None:
    assert compare.judge(ratio) == verdict


def test_builds_are_compared_round_by_round() -> None:
    assert compare.compare(base=[1.0, 10.0, 1.0], new=[1.1, 11.0, 1.2]) == pytest.approx(1.1)
    assert set(compare.QUICK) <= set(compare.CASES)


@pytest.mark.parametrize("name", ON_TENSORS)
@pytest.mark.parametrize(
    ("shape", "dim"), [((4, 5, 6, 7), 1), ((3, 9, 5), 2), ((16, 5), 1)], ids=str
)
def test_rivals_measure_the_same(name: str, shape: tuple[int, ...], dim: int) -> None:
    rival = need(name)
    if rival.plain:  # a compiler takes long to say the same: compare what it is given
        assert rival.start.args[0] is getattr(rivals, rival.plain)
        return
    x = torch.randn(shape).relu()
    ours = fmstats.channel_stats(x, dim)
    if rival.per_tensor:
        ours = ours.pooled()
    numbers = rival.on_a_layer()(x, dim)
    assert numbers
    for field, value in numbers.items():
        want = np.asarray(getattr(ours, field)).squeeze()
        np.testing.assert_allclose(value.numpy().squeeze(), want, 1e-5, 1e-6, err_msg=field)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads dynamo
def test_compiled_rivals_are_not_crippled() -> None:
    dynamo = pytest.importorskip("torch._dynamo")
    rivals.compiled(rivals.seed, False)
    assert dynamo.config.recompile_limit >= 1000
    assert rivals.compiled(rivals.seed, False) is rivals.compiled(rivals.seed, False)


def test_torchlens_sees_every_layer() -> None:
    rival = need("TorchLens")
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    x = torch.randn(2, 4)
    with torch.inference_mode():
        trace = rival.watch(model, x)
    assert torch.equal(trace["relu_1_2"].out, model(x))


def test_a_missing_rival_says_so() -> None:
    missing = rivals.Rival("none", "", package="no_such_package.inside")
    assert missing.why_not() == "not installed"


def test_attached_rivals_see_outputs() -> None:
    model = bench_hook.relu()
    seen = []

    def measure(x: Tensor, dim: int) -> dict[str, Tensor]:
        seen.append((x, dim))
        return {}

    rivals.attach(model[0], rivals.Rival("spy", "", lambda: measure), 1)
    model(torch.tensor([[-1.0, 2.0]]))
    assert torch.equal(seen[0][0], torch.tensor([[0.0, 2.0]]))
    assert seen[0][1] == 1


def test_twins_share_weights_and_not_hooks() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    copied = bench_model.copy_for_hooks(model)
    assert copied[0].weight is model[0].weight
    assert copied[1].running_mean is model[1].running_mean
    copied[0].register_forward_hook(rivals.do_nothing)
    assert not model[0]._forward_hooks


def test_a_model_is_measured_every_way() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(1))
    x = torch.randn(2, 3, 4, 4)
    rows = bench_model.measure(model, x, ["seed", "ao per channel"], rounds=1)
    assert [row["way"] for row in rows] == [
        *(
            "bare",
            "empty",
            "x.sum()",
            "fmstats",
            "fmstats, functions",
            "fmstats, alarmed",
            "seed",
            "ao per channel",
        ),
    ]
    assert rows[0]["layers"] == 3
    assert rows[0]["bytes"] == 3 * 2 * 4 * 4 * 4 * 4
    assert not any(module._forward_hooks for module in model)


class WithFunctions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.conv(x))
        return y + self.conv(y)


def test_rivals_are_attached_to_modules_alone() -> None:
    rows = bench_model.measure(WithFunctions(), torch.randn(2, 3, 4, 4), ["seed"], rounds=1)
    assert rows[0]["layers"] == 1


def test_first_and_later_passes_are_measured() -> None:
    row = bench_first_pass.measure(WithFunctions(), torch.randn(2, 3, 4, 4), rounds=1)
    assert (row["modules"], row["functions"]) == (1, 2)
    assert {f"{a}/{b}" for a, b in bench_first_pass.RATIOS} < row.keys()


@pytest.mark.parametrize(
    ("functional", "modules", "joins"),
    [("ResNet-18 F", "ResNet-18", 8), ("MobileNetV2 F", "MobileNetV2", 10)],
)
def test_functional_models_are_those_of_modules(functional: str, modules: str, joins: int) -> None:
    if modules == "ResNet-18":
        pytest.importorskip("transformers")
    counts, seen = [], []
    for name in (functional, modules):
        model, x = models.MODELS[name]()
        counts.append(sorted(p.numel() for p in model.parameters()))
        with torch.inference_mode(), fmstats.track(model.eval()) as tracker:
            model(x[:1, :, :64, :64])
        seen.append([row.type.lower() for row in tracker.stats().info.values()])
    assert counts[0] == counts[1]
    for kind in ("relu", "relu6", "add"):
        assert seen[0].count(kind) == seen[1].count(kind)
    assert seen[0].count("add") == joins
    assert not {"ReLU", "ReLU6"} & {
        type(m).__name__ for m in models.MODELS[functional]()[0].modules()
    }


@pytest.mark.parametrize("shape", [(4, 6, 3), (12, 3, 8, 8)], ids=str)
def test_masks_keep_what_they_say(shape: tuple[int, ...]) -> None:
    rows = bench_masks.measure(shape, rounds=1)
    assert {row["shape"] for row in rows} == {shape}
    kept = {(row["by"], row["groups"]): row["kept"] for row in rows}
    assert len(kept) == len(rows)
    assert kept["all", 1] == 1
    if len(shape) == 3:
        assert kept["padding", 1] == kept["sample", 1] == 0.5
    else:
        assert kept["sample", 10] == kept["pixel", 4] == 1
        assert kept["region", 1] == 0.25


@pytest.mark.parametrize("optimizer", bench_parameters.OPTIMIZERS)
def test_every_way_of_training_makes_the_steps(optimizer: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    before = [p.detach().clone() for p in model.parameters()]
    row = bench_parameters.measure(model, torch.randn(8, 4), optimizer, steps=10, rounds=1)
    assert set(bench_parameters.WAYS[1:]) < row.keys()
    tenth, every = row["steps_measured"]
    assert row["steps"] == [10 * tenth, every]
    assert row["parameters"] == 4 * 4 + 4 + 4 * 2 + 2
    assert all(map(torch.equal, before, model.parameters()))  # each way has a copy of its own
    assert set(bench_parameters.TRAINED) <= set(models.MODELS)


def test_a_loss_is_of_the_first_that_a_model_gives() -> None:
    x = torch.tensor([1.0, 3.0])
    assert bench_parameters.loss_of(x) == bench_parameters.loss_of((x, None)) == 5


def test_chart_takes_one_setting() -> None:
    rows = [
        {"malloc": "kept", "model": "MLP", "way": "fmstats", "ratio": 1.2},
        {"malloc": "default", "model": "MLP", "way": "fmstats", "ratio": 1.1},
        {"malloc": "kept", "model": "MLP", "way": "bare", "ratio": 1.0},
        {"way": "TorchLens", "left_out": "not installed"},
    ]
    assert chart.ratios_of(rows, "kept") == {"fmstats": {"MLP": 1.2}}
    assert set(chart.COLOURS) <= {"empty", "fmstats", *rivals.RIVALS}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_asks_the_question(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(script)
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    assert f"python benchmarks/{script}.py" in capsys.readouterr().out
    assert "?" in (inspect.getdoc(module) or "").split("\n\n")[0]


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda p: p.name)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_the_inline_rival_measures_the_same() -> None:
    layer = nn.Conv2d(3, 5, 3)
    hook = bench_compile.InlineHook(None)
    batches = [torch.randn(4, 3, 9, 9) for _ in range(3)]
    batches[1][0, 0, 0, 0] = torch.nan
    with torch.no_grad(), fmstats.track(nn.Sequential(layer)) as tracker:
        outputs = [layer(x).clone() for x in batches]
    state = fmstats.statistic.state.State.identity(5)
    hook._dim, hook._words = 1, state.words
    for y in outputs:
        hook(layer, (), y)
    want, got = tracker.stats()["0"].state, state
    for field in ("count", "nan", "pos_inf", "neg_inf", "zeros", "min", "max"):
        assert torch.equal(got[field], want[field].to(got[field].dtype)), field
    for field in ("mean", "m2"):
        torch.testing.assert_close(got[field], want[field], rtol=1e-5, atol=1e-6)

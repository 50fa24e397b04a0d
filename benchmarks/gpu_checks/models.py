"""How much slower is a step of ResNet-50 on a GPU when every leaf module is watched?

Batch 64, float32 (TF32 in convolutions, torch's default) and autocast to bfloat16, contiguous and
channels_last; a forward pass without gradients, and a training step with SGD. Ways take turns over
the same weights; a figure is the median over the rounds of the time over that of the bare model in
the same round. `graph` is the forward pass in a CUDA graph, where the host takes no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from bench_model import copy_for_hooks, profile_of, with_hook, with_rival
from interleave import print_line, ratio, time_in_turn
from models import MODELS
from rivals import RIVALS, Measure, Rival, do_nothing
from torch import Tensor, nn

import fmstats
from fmstats.models.output_tensors import first_tensor
from gpu_checks.report import Report, Setup
from gpu_checks.streams import capture, warm_up

MODEL, BATCH = "ResNet-50", 64
QUICK_RIVALS = ("seed",)
FULL_RIVALS = ("seed", "var_mean", "seed compiled, static")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
WIDTHS = (10, 14, 10, 24, 9, 7)
Step = Callable[[nn.Module], object]


@dataclasses.dataclass(frozen=True)
class Config:
    """Says how a model is run."""

    dtype: torch.dtype
    layout: str

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}, {self.layout}"


QUICK = (Config(torch.bfloat16, "channels_last"),)
FULL = tuple(
    Config(dtype, layout) for dtype in (torch.float32, torch.bfloat16) for layout in LAYOUTS
)


def detached(rival: Rival) -> Rival:
    """Wrap a rival so that no gradient is kept of what it computes."""
    assert rival.start is not None
    start = rival.start

    def begin() -> Measure:
        measure = start()

        def detach(x: Tensor, dim: int) -> Mapping[str, Tensor]:
            with torch.no_grad():
                return measure(x.detach(), dim)

        return detach

    return dataclasses.replace(rival, start=begin)


def forward(x: Tensor, config: Config, model: nn.Module) -> object:
    enabled = config.dtype != torch.float32
    with torch.no_grad(), torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=enabled):
        return model(x)


def train(x: Tensor, config: Config, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Make a training step; the rate is 0, so that weights and hence data stay as they are."""
    optimizer.zero_grad(set_to_none=True)
    enabled = config.dtype != torch.float32
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=enabled):
        output = first_tensor(model(x))
        assert output is not None
        loss = output.float().square().mean()
    loss.backward()
    optimizer.step()


def ways_of(
    model: nn.Module, x: Tensor, rivals: Sequence[str], report: Report, config: Config, step: Step
) -> tuple[dict[str, nn.Module], nn.Module]:
    """Return copies of a model with their hooks, and the one to track; each has run once."""
    profile = profile_of(model, x[:2])
    tracked = copy_for_hooks(model)
    ways = {
        "bare": model,
        "empty": with_hook(model, profile, do_nothing),
        "fmstats": tracked,
    }
    for name in rivals:
        why = RIVALS[name].why_not()
        if why is None:
            watched = with_rival(model, profile, detached(RIVALS[name]))
            try:
                step(watched)
                ways[name] = watched
            except Exception as error:  # a compiler that does not work here
                why = f"{type(error).__name__}: {error}".splitlines()[0]
        if why is not None:
            report.note(f"{name}, {config}", "skipped", why)
    return ways, tracked


def measure(
    model: nn.Module,
    x: Tensor,
    config: Config,
    setup: Setup,
    report: Report,
    rivals: Sequence[str],
    rounds: int,
    name: str = MODEL,
) -> list[dict[str, Any]]:
    """Return the rows of one configuration: an inference and a training step, a way each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    steps: dict[str, Step] = {
        "inference": partial(forward, x, config),
        "training": partial(train, x, config, optimizer),
    }
    rows = []
    for step_name, step in steps.items():
        model.train(step_name == "training")
        ways, tracked = ways_of(model, x, rivals, report, config, step)

        def timed(way: nn.Module, step: Step = step) -> None:
            step(way)
            setup.wait()

        with fmstats.track(tracked, backend=setup.backend.name):
            calls = {way: partial(timed, module) for way, module in ways.items()}
            seconds = time_in_turn(calls, rounds)
        for way in ways:
            over = ratio(seconds, way, "bare")
            row = {
                "model": name,
                "dtype": str(config.dtype).removeprefix("torch."),
                "layout": config.layout,
                "step": step_name,
                "way": way,
                "seconds": median(seconds[way]),
                "ratio": over,
            }
            rows.append(row)
            cells = (step_name, config.layout, row["dtype"], way, row["seconds"] * 1e3, over)
            print_line(cells, WIDTHS)
    return rows


def measure_graph(
    model: nn.Module, x: Tensor, config: Config, setup: Setup, rounds: int
) -> dict[str, float]:
    """Return seconds of a forward pass in a CUDA graph, bare and tracked, and their ratio."""
    tracked = copy_for_hooks(model.eval())
    graphs = {}
    with fmstats.track(tracked, backend=setup.backend.name) as tracker:
        for way, module in (("bare", model), ("fmstats", tracked)):
            run = partial(forward, x, config, module)
            graphs[way] = capture(run, warm_up(run, setup))

        def replay(graph: torch.cuda.CUDAGraph) -> None:
            graph.replay()
            setup.wait()

        seconds = time_in_turn({way: partial(replay, g) for way, g in graphs.items()}, rounds)
        assert tracker.stats()
    found = {way: median(each) for way, each in seconds.items()}
    return {**found, "ratio": ratio(seconds, "fmstats", "bare")}


def summary(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what predict.py reads: what tracking adds to each step."""
    kept = ("model", "dtype", "layout", "step")
    return [
        {**{key: row[key] for key in kept}, "overhead": row["ratio"] - 1}
        for row in rows
        if row["way"] == "fmstats"
    ]


def run(setup: Setup, report: Report) -> None:
    """Run ResNet-50 in every configuration; in a quick run one of them, with one rival."""
    rivals = QUICK_RIVALS if setup.quick else FULL_RIVALS
    rounds = 7 if setup.quick else 15
    rows: list[dict[str, Any]] = []
    graphs: list[dict[str, Any]] = []
    report.figures |= {"steps": rows, "models": [], "graphs": graphs}
    print_line(("step", "layout", "dtype", "way", "ms", "/bare"), WIDTHS)

    def one(config: Config) -> None:
        torch.manual_seed(0)
        model, _ = MODELS[MODEL]()
        layout = LAYOUTS[config.layout]
        model = model.to(device=setup.device, memory_format=layout)
        x = torch.randn(BATCH, 3, 224, 224, device=setup.device).contiguous(memory_format=layout)
        rows.extend(measure(model, x, config, setup, report, rivals, rounds))
        report.figures["models"] = summary(rows)
        in_graph = measure_graph(model, x, config, setup, rounds)
        graphs.append({"dtype": str(config.dtype), "layout": config.layout, **in_graph})
        print_line(
            ("graph", config.layout, str(config.dtype), "fmstats", None, in_graph["ratio"]), WIDTHS
        )

    for config in QUICK if setup.quick else FULL:
        report.check(str(config), partial(one, config))

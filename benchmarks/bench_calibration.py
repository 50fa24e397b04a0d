"""What is lost in 8 bits with our scales, beside torch.ao's observers, and what do scales cost?

    python benchmarks/bench_calibration.py [--quick] [--resolutions] [--json FILE]

What convolutions and Linear layers of trained networks are given is put through codes of 8 bits;
weights stay as they are. Scales are made of some data, and judged on others, by the ratio of
squares of numbers to those of their errors (SQNR): of what codes change in each layer (the mean
over layers, in dB), and of the network's outputs; and by the share of samples whose largest output
stays where it was (top-1). Beside each method is the observer of torch.ao that does the same.
Layers decide who is worse: in outputs, errors of many layers add up by chance. `--resolutions` does
so with histograms of 4 to 64 bins an octave.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any, NamedTuple

import torch
from calibration_networks import NETWORKS, Case
from calibration_observers import OBSERVERS, bytes_of, code_as, hooked, observe
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError, Profile, Tracker
from fmstats.calibration import METHODS

# Scheme, method, per.
Way = tuple[str, str, str]
WAYS: Sequence[Way] = (
    *(("int8", method, "tensor") for method in METHODS),
    *(("uint8", method, "tensor") for method in METHODS),
    ("int8", "absmax", "channel"),
    ("int8", "mse", "channel"),
    *(("e4m3", method, "tensor") for method in ("absmax", "mse")),
)
HAIR = 0.1  # dB: codes of int8 go from -127 to 127 here, from -128 in torch.ao
IMAGES, IMAGES_QUICK = 54, 18
RESOLUTIONS = (2, 3, 4, 5, 6)

LOSSES = ("network", "scheme", "method", "per", *("layers", "outputs", "top-1") * 2, "")
LOSS_WIDTHS = (12, 6, 11, 8, 7, 8, 6, 9, 8, 6, 6)
# How trackers are called in the table of costs, and of what they keep histograms.
TRACKED = {"fmstats, layer": "layer", "fmstats, channel": "channel", "fmstats, no bins": ""}
# Bits of bins: the default of layers, and of channels as many as there is room for.
BITS = {"layer": 4, "channel": 2, "": 4}
COSTS = ("network", "way", "s/pass", "ratio", "s/scales", "kB")
COST_WIDTHS = (12, 18, 8, 8, 9, 10)
Row = dict[str, Any]
Change = Callable[[str, Tensor], Tensor]


class Loss(NamedTuple):
    """Holds what codes lose: SQNR in dB, and top-1 agreement in percent."""

    layers: float
    outputs: float
    top1: float


@dataclass(frozen=True)
class Judge:
    """Holds what a network gives for held-out data."""

    case: Case
    modules: dict[str, nn.Module]
    outputs: Tensor

    @classmethod
    def of(cls, case: Case) -> Judge:
        return cls(case, inputs_of(case.model), _run(case))

    def lose(self, change: Change) -> Loss:
        """Return what is lost where inputs pass through `change`."""
        squares = {name: [0.0, 0.0] for name in self.modules}

        def code(name: str, x: Tensor) -> Tensor:
            coded = change(name, x)
            squares[name][0] += float(x.double().square().sum())
            squares[name][1] += float((coded - x).double().square().sum())
            return coded

        with hooked(self.modules, code):
            coded = _run(self.case)
        layers = [_decibels(*both) for both in squares.values() if min(both) > 0]
        signal, noise = (x.double().square().sum() for x in (self.outputs, coded - self.outputs))
        same = (coded.argmax(1) == self.outputs.argmax(1)).double().mean()
        return Loss(mean(layers), _decibels(float(signal), float(noise)), 100 * float(same))


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise)


def _run(case: Case) -> Tensor:
    return torch.cat([case.model(batch) for batch in case.held_out])


def inputs_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose inputs are coded, by their names."""
    kinds = nn.Conv2d, nn.Linear
    return {name: module for name, module in model.named_modules() if isinstance(module, kinds)}


def watch(model: nn.Module, scope: str, resolution: int | None = None) -> Tracker:
    """Return a tracker of these inputs, with histograms of a scope, or "" for none."""
    return fmstats.track(
        model,
        list(inputs_of(model)),
        of="input",
        measure="histogram" if scope else (),
        histogram=scope or "layer",
        resolution=BITS[scope] if resolution is None else resolution,
    )


def measure(case: Case, scope: str, resolution: int | None = None) -> Profile:
    """Return the profile of the data to calibrate on."""
    with watch(case.model, scope, resolution) as tracker:
        for batch in case.calibration:
            case.model(batch)
    return tracker.stats()


def compare(name: str, case: Case, ways: Sequence[Way] = WAYS) -> list[Row]:
    """Return what each way loses, and its observer."""
    judge = Judge.of(case)
    profiles = {"tensor": measure(case, "layer"), "channel": measure(case, "channel")}
    rows = []
    for scheme, method, per in ways:
        qparams = profiles[per].qparams(scheme, method, per=per)
        row: Row = {"network": name, "scheme": scheme, "method": method, "per": per}
        row |= judge.lose(lambda n, x, q=qparams: q[n].fake_quantize(x))._asdict()
        make = OBSERVERS.get((scheme, method, per))
        theirs = Loss(*[None] * 3)
        if make is not None:
            with observe(judge.modules, make) as observers:
                for batch in case.calibration:
                    case.model(batch)
            theirs = judge.lose(code_as(observers))
        row |= {f"ao_{field}": value for field, value in theirs._asdict().items()}
        print_line([*row.values(), verdict(row)], LOSS_WIDTHS)
        rows.append(row)
    return rows


def verdict(row: Row) -> str:
    """Say whether a method loses more than its observer."""
    if row["ao_layers"] is None:
        return ""
    return "WORSE" if row["layers"] < row["ao_layers"] - HAIR else ""


def cost(name: str, case: Case, rounds: int) -> list[Row]:
    """Return what it costs to watch a pass, and to make the scales afterwards."""
    batch, trackers, seen = case.calibration[0], {}, {}
    ways: dict[str, Callable[[], object]] = {"bare": partial(case.model, batch)}
    with contextlib.ExitStack() as watched:
        for way, scope in TRACKED.items():
            model = copy.deepcopy(case.model)
            trackers[way] = watched.enter_context(watch(model, scope))
            ways[way] = partial(model, batch)
        for (scheme, method, per), make in OBSERVERS.items():
            if scheme == "uint8" or per == "channel":
                model = copy.deepcopy(case.model)
                way = f"ao {method}, {per}"
                seen[way] = watched.enter_context(observe(inputs_of(model), make))
                ways[way] = partial(model, batch)
        seconds = time_in_turn(ways, rounds)
    rows = []
    for way in ways:
        row: Row = {"network": name, "way": way, "seconds": min(seconds[way])}
        row |= {"ratio": ratio(seconds, way, "bare"), "scales": None, "kilobytes": None}
        started = time.perf_counter()
        if way in trackers:
            profile = trackers[way].stats()
            profile.qparams("uint8", "mse" if TRACKED[way] else "absmax")
            row["scales"] = time.perf_counter() - started
            held = [t for stats in profile.values() for t in stats.state.held]
            row["kilobytes"] = sum(t.nbytes for t in held) / 1e3
        elif way in seen:
            for observer in seen[way].values():
                observer.calculate_qparams()
            row["scales"] = time.perf_counter() - started
            row["kilobytes"] = bytes_of(seen[way]) / 1e3
        print_line(list(row.values()), COST_WIDTHS)
        rows.append(row)
    return rows


def try_resolutions(name: str, case: Case) -> list[Row]:
    """Return what is lost with coarser and finer histograms."""
    judge, rows = Judge.of(case), []
    for resolution in RESOLUTIONS:
        profile = measure(case, "layer", resolution)
        row: Row = {"network": name, "resolution": resolution}
        for scheme, method in (
            *(("int8", "mse"), ("uint8", "mse"), ("e4m3", "mse")),
            *(("uint8", "percentile"), ("int8", "entropy")),
        ):
            qparams = profile.qparams(scheme, method)
            found = judge.lose(lambda n, x, q=qparams: q[n].fake_quantize(x))
            row[f"{scheme} {method}"] = found.layers
        print_line(list(row.values()), (12, 4, 10, 10, 10, 17, 13))
        rows.append(row)
    return rows


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 if a method is worse than its observer."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--resolutions", action="store_true", help="compare resolutions instead")
    asked = parser.parse_args(arguments)
    rows: list[Row] = []
    names = [*NETWORKS][:1] if asked.quick else [*NETWORKS]
    cases: dict[str, Case] = {}
    for name in names:
        try:
            cases[name] = NETWORKS[name](IMAGES_QUICK if asked.quick else IMAGES)
        except FmstatsError as error:
            print(f"{name} left out: {error}")
    if asked.resolutions:
        for name, case in cases.items():
            rows += try_resolutions(name, case)
        write_json(asked.json, rows)
        return 0
    print_line(LOSSES, LOSS_WIDTHS)
    for name, case in cases.items():
        rows += compare(name, case)
    print()
    print_line(COSTS, COST_WIDTHS)
    for name, case in cases.items():
        rows += cost(name, case, 3 if asked.quick else 7)
    write_json(asked.json, rows)
    return int(any(verdict(row) for row in rows if "ao_layers" in row))


if __name__ == "__main__":
    sys.exit(main())

"""The table of docs/analyze.md: totals of four models by fmstats and three other tools.

    python docs/analyze_totals.py

Needs transformers, torchinfo, fvcore and pytest (whose models it shares), and runs on a CPU.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis, parameter_count
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import fmstats

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from analysis_models import IMAGE, MODELS

Totals = tuple[int | None, int]  # parameters, MACs


def by_fmstats(model: nn.Module) -> Totals:
    """On fake tensors."""
    totals = fmstats.analyze(model, input_size=IMAGE).totals
    return totals["params"], totals["macs"]


def by_torchinfo(model: nn.Module) -> Totals:
    """Its "total mult-adds"."""
    summary = torchinfo.summary(model, input_size=IMAGE, verbose=0)
    return summary.total_params, summary.total_mult_adds


def by_counter(model: nn.Module) -> Totals:
    """Half its FLOPs; it has no parameters."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(IMAGE))
    return None, counter.get_total_flops() // 2


def by_fvcore(model: nn.Module) -> Totals:
    """Its "flops", which are MACs."""
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of torch.jit.trace
        counts = FlopCountAnalysis(model, torch.zeros(IMAGE))
        counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return parameter_count(model)[""], int(counts.total())


TOOLS: Mapping[str, Callable[[nn.Module], Totals]] = {
    "fmstats": by_fmstats,
    "torchinfo": by_torchinfo,
    "FlopCounterMode": by_counter,
    "fvcore": by_fvcore,
}


def main() -> None:
    """Print the table in markdown."""
    print("| model | | " + " | ".join(TOOLS) + " |")
    print("|---|---|" + "---:|" * len(TOOLS))
    for name, build in MODELS.items():
        model = build()
        found = [measure(model) for measure in TOOLS.values()]
        params = " | ".join("-" if n is None else f"{n:,}" for n, _ in found)
        macs = " | ".join(f"{n / 1e9:.4f}" for _, n in found)
        print(f"| {name} | parameters | {params} |")
        print(f"| | GMACs | {macs} |")


if __name__ == "__main__":
    main()

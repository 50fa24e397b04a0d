"""What does a hook cost on a tiny tensor, and in a network of many small layers?

    python benchmarks/bench_hook.py [--quick] [--json FILE]

Whole module calls, beside the same module without a hook: `us a hook`, what each hook adds; `/bare`
and `/empty`, the time over that without a hook and with a Python hook that does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from rivals import RIVALS, attach, do_nothing
from torch import nn

import fmstats

QUICK = ("seed", "var_mean", "ao per channel")
WIDTHS = (28, 10, 8, 8)


def relu() -> nn.Sequential:
    return nn.Sequential(nn.ReLU())


def mlp() -> nn.Sequential:
    return nn.Sequential(*[m for _ in range(48) for m in (nn.Linear(256, 256), nn.ReLU())])


CASES = {"ReLU on (4, 8)": (relu, (4, 8)), "48 x Linear(256) + ReLU": (mlp, (32, 256))}


def measure(
    name: str, rivals: Sequence[str], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return the rows of one network, a way each, and its seconds per call by way."""
    build, shape = CASES[name]
    x = torch.randn(*shape)
    networks = {way: build() for way in ("bare", "empty", "fmstats", *rivals)}
    for layer in networks["empty"]:
        layer.register_forward_hook(do_nothing)
    for way in rivals:
        for layer in networks[way]:
            attach(layer, RIVALS[way], 1)
    # Of a lone layer the layer itself is called, as its hook is what is asked about.
    called = {way: n if len(n) > 1 else n[0] for way, n in networks.items()}
    with torch.inference_mode(), fmstats.track(networks["fmstats"]):
        seconds = time_in_turn(
            {way: lambda m=module: m(x) for way, module in called.items()}, rounds
        )
    hooks = len(networks["bare"])
    bare = seconds["bare"]
    rows = []
    for way in ("empty", "fmstats", *rivals):
        added = median(a - b for a, b in zip(seconds[way], bare, strict=True))
        rows.append(
            {
                "network": name,
                "way": way,
                "hooks": hooks,
                "us_a_hook": 1e6 * added / hooks,
                "ratio": ratio(seconds, way, "bare"),
                "ratio_to_empty": ratio(seconds, way, "empty"),
            }
        )
    return rows, {way: median(s) for way, s in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table per network."""
    options = options_of(__doc__ or "").parse_args(argv)
    rivals = [n for n, rival in RIVALS.items() if rival.start and rival.why_not() is None]
    if options.quick:
        rivals = [n for n in rivals if n in QUICK]
    rows = []
    for name in CASES:
        found, seconds = measure(name, rivals, rounds=15 if options.quick else 51)
        rows += found
        print(f"{name}: {1e6 * seconds['bare']:.1f} us without hooks")
        print_line(("way", "us a hook", "/bare", "/empty"), WIDTHS)
        for row in found:
            print_line([row[k] for k in ("way", "us_a_hook", "ratio", "ratio_to_empty")], WIDTHS)
    for name, rival in RIVALS.items():
        if name not in rivals:
            why = "full runs only" if rival.start else "on models only, see bench_model.py"
            print(f"{name}: {rival.why_not() or why}")
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

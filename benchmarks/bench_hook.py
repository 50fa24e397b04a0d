"""What does a hook cost on a tiny tensor, and in a network of many small layers?

    python benchmarks/bench_hook.py [--quick] [--json FILE]

Whole module calls, beside the same module without a hook and with a Python hook that does nothing.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from interleave import arguments, ratio, time_in_turn, write_json
from torch import Tensor, nn

import fmstats


def do_nothing(module: nn.Module, args: object, output: Tensor) -> None:
    pass


def seed_hook(module: nn.Module, args: object, output: Tensor) -> None:
    zeros = (output == 0).float().mean(0)
    module.__dict__["seen"] = output.mean(0), output.std(0), zeros, output.amax(0)


def mlp() -> nn.Module:
    return nn.Sequential(*[m for _ in range(48) for m in (nn.Linear(256, 256), nn.ReLU())])


def main() -> None:
    """Print a row per network."""
    options = arguments(__doc__ or "")
    rows = []
    header = ("network", "bare us", "empty/bare", "fmstats/bare", "fmstats/empty", "seed/bare")
    print("{:24} {:>9} {:>11} {:>13} {:>14} {:>10}".format(*header))
    cases = {
        "ReLU on (4, 8)": (lambda: nn.Sequential(nn.ReLU()), torch.randn(4, 8)),
        "48 x Linear(256) + ReLU": (mlp, torch.randn(32, 256)),
    }
    for name, (build, x) in cases.items():
        networks = {way: build() for way in ("bare", "empty", "fmstats", "seed")}
        for way, hook in (("empty", do_nothing), ("seed", seed_hook)):
            for layer in networks[way]:
                layer.register_forward_hook(hook)
        # Of a lone layer the layer itself is called, as its hook is what is asked about.
        called = {w: n if len(n) > 1 else n[0] for w, n in networks.items()}
        with torch.inference_mode(), fmstats.track(networks["fmstats"]):
            ways = {way: lambda m=module, x=x: m(x) for way, module in called.items()}
            seconds = time_in_turn(ways, rounds=15 if options.quick else 51)
        row: dict[str, Any] = {"network": name, "bare_us": 1e6 * median(seconds["bare"])}
        for way, base in (
            ("empty", "bare"),
            ("fmstats", "bare"),
            ("fmstats", "empty"),
            ("seed", "bare"),
        ):
            row[f"{way}/{base}"] = ratio(seconds, way, base)
        rows.append(row)
        print(
            f"{name:24} {row['bare_us']:9.1f} {row['empty/bare']:11.2f} "
            f"{row['fmstats/bare']:13.2f} {row['fmstats/empty']:14.2f} {row['seed/bare']:10.2f}"
        )
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

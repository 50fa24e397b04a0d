"""How much slower does a whole model run when every leaf module is watched?

    python benchmarks/bench_model.py [--quick] [--json FILE] [--models NAME ...] [--rivals NAME ...]

Eval mode, inference mode, CPU; the ways take turns, and each cell is the median over the rounds of
the time over that of the bare model in the same round. Every table is made twice, each in a process
of its own. malloc "default" gives large tensors back to the system at once, so that a forward pass
pays for the page faults of fresh memory and anything beside it looks cheap. malloc "kept" keeps
them (MALLOC_* set high): the bare model is faster, and overhead shows as it is. --quick: two
models, images in batches of 2. "x.sum()" are hooks that read the output once and keep nothing.
"fmstats" measures the modules that rivals can be attached to; "fmstats, functions" also functional
operations, which it does by default; "fmstats, alarmed" is "fmstats" with a function to be called
where a layer has its first NaN. The models with F in their name have functions in place of
activations, pooling and sums.
"""

from __future__ import annotations

import argparse
import copy
import json
import resource
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from malloc_settings import MALLOC, ask_child
from models import MODELS
from rivals import RIVALS, Rival, attach, do_nothing, read_once
from torch import Tensor, nn

import fmstats
from fmstats import Profile

Row = dict[str, Any]
QUICK_MODELS = ("MobileNetV2", "MLP")
QUICK_RIVALS = ("seed",)
FEW = 3  # rounds of a slow rival


def copy_for_hooks(model: nn.Module) -> nn.Module:
    """Copy a model, with hooks of its own over the same parameters and buffers."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def profile_of(model: nn.Module, x: Tensor) -> Profile:
    """Find in one pass which modules give tensors, and where these have their channels."""
    watched = copy_for_hooks(model)
    with fmstats.track(watched, functional=False) as tracker:
        watched(x)
    return tracker.stats()


def with_rival(model: nn.Module, profile: Profile, rival: Rival) -> nn.Module:
    """Copy a model with a rival at every layer that fmstats measures."""
    watched = copy_for_hooks(model)
    for name, layer in profile.info.items():
        attach(watched.get_submodule(name), rival, layer.channel_dim)
    return watched


def with_hook(model: nn.Module, profile: Profile, hook: Callable[..., None]) -> nn.Module:
    """Copy a model with a hook at every layer that fmstats measures."""
    watched = copy_for_hooks(model)
    for name in profile.info:
        watched.get_submodule(name).register_forward_hook(hook)
    return watched


def bytes_seen(profile: Profile) -> int:
    """Return the bytes of the activations of one forward pass."""
    return sum(
        int(layer.stats.count.sum()) * getattr(torch, layer.dtype).itemsize
        for layer in profile.info.values()
    )


def count_faults(forward: Callable[[], object]) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    forward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@torch.inference_mode()
def measure(model: nn.Module, x: Tensor, rivals: Sequence[str], rounds: int) -> list[Row]:
    """Return the rows of one model, a way each, the bare one first."""
    profile = profile_of(model.eval(), x)
    tracked, functional, alarmed = (copy_for_hooks(model) for _ in range(3))
    ways: dict[str, Callable[[], object]] = {
        "bare": partial(model, x),
        "empty": partial(with_hook(model, profile, do_nothing), x),
        "x.sum()": partial(with_hook(model, profile, read_once), x),
        "fmstats": partial(tracked, x),
        "fmstats, functions": partial(functional, x),
        "fmstats, alarmed": partial(alarmed, x),
    }
    slow = {"bare": ways["bare"]}
    for name in rivals:
        rival = RIVALS[name]
        way = (
            partial(rival.watch, copy_for_hooks(model), x)
            if rival.watch
            else partial(with_rival(model, profile, rival), x)
        )
        (slow if rival.slow else ways)[name] = way
    with (
        fmstats.track(tracked, functional=False),
        fmstats.track(functional),
        fmstats.track(alarmed, functional=False, on_nonfinite=print),
    ):
        seconds = time_in_turn(ways, rounds)
        faults = count_faults(ways["bare"])
    few = time_in_turn(slow, FEW) if len(slow) > 1 else {}
    rows: list[Row] = []
    for way in (*ways, *list(slow)[1:]):
        timed = seconds if way in seconds else few
        row = {"way": way, "ms": 1e3 * median(timed[way]), "ratio": ratio(timed, way, "bare")}
        rows.append(row)
    seen = bytes_seen(profile)
    rows[0] |= {"page_faults": faults, "layers": len(profile), "bytes": seen}
    added = median(a - b for a, b in zip(seconds["fmstats"], seconds["bare"], strict=True))
    if added > 0:
        rows[list(ways).index("fmstats")] |= {"bytes": seen, "gb_per_s": seen / added / 1e9}
    return rows


def measure_all(
    models: Sequence[str], rivals: Sequence[str], rounds: int, quick: bool
) -> list[Row]:
    """Return the rows of all models, and print a line of progress for each."""
    rows = []
    for name in models:
        print(f"{name} ...", file=sys.stderr, flush=True)
        torch.manual_seed(0)
        model, x = MODELS[name]()
        if quick and x.dim() == 4:
            x = x[:2].clone()
        rows += [{"model": name, **row} for row in measure(model, x, rivals, rounds)]
    return rows


def print_table(malloc: str, rows: Sequence[Row]) -> None:
    """Print a column for each model and a line for each way."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    by = {(row["model"], row["way"]): row for row in rows}
    widths = (26, *(max(11, len(model)) for model in models))
    print(f"\nmalloc {malloc}: time over that of the bare model")
    print_line(("", *models), widths)
    bare = [by[model, "bare"] for model in models]
    print_line(("bare, ms", *(f"{row['ms']:.1f}" for row in bare)), widths)
    print_line(("page faults of a pass", *(row["page_faults"] for row in bare)), widths)
    print_line(("layers watched", *(row["layers"] for row in bare)), widths)
    for way in dict.fromkeys(row["way"] for row in rows if row["way"] != "bare"):
        print_line((way, *(by[model, way]["ratio"] for model in models)), widths)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table for each setting of malloc."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--models", nargs="+", choices=MODELS, help="these only")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, help="beside these only")
    parser.add_argument("--rounds", type=int, help="instead of 7, or of 3")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    quick = options.quick
    models = options.models or (QUICK_MODELS if quick else tuple(MODELS))
    asked = QUICK_RIVALS if quick else tuple(RIVALS)
    asked = asked if options.rivals is None else options.rivals
    rivals = [name for name in asked if RIVALS[name].why_not() is None]
    if options.child:
        rows = measure_all(models, rivals, options.rounds or (3 if quick else 7), quick)
        print(json.dumps(rows))
        return
    left_out = {
        name: rival.why_not() or ("full runs only" if quick else "not asked for")
        for name, rival in RIVALS.items()
        if name not in rivals
    }
    rows = []
    for malloc in MALLOC:
        found = ask_child(__file__, malloc, sys.argv[1:] if argv is None else argv)
        print_table(malloc, found)
        rows += found
    print()
    for way, why in left_out.items():
        print(f"{way}: {why}")
    write_json(options.json, [*rows, *({"way": w, "left_out": y} for w, y in left_out.items())])


if __name__ == "__main__":
    main()

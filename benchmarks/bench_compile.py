"""What does tracking cost a compiled model, and would measurements that Inductor fuses cost less?

    python benchmarks/bench_compile.py [--quick] [--json FILE]

`/compiled`: forward pass over that of the compiled model alone. `inline` is the statistic written
in plain operations inside of the graph, for Inductor to fuse into what makes the activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import median

import torch
from interleave import options_of, print_line, ratio, time_in_turn, write_json
from models import MODELS, Made
from torch import Tensor, nn

import fmstats
from fmstats.models.channel_dims import ChannelRule, channel_rules
from fmstats.models.selection import is_leaf
from fmstats.statistic.fields import COUNTS, MOMENTS
from fmstats.statistic.state import State, merge

WIDTHS = (18, 12, 12, 12)


def conv_net() -> Made:
    """Build convolution, norm and activation, three times over: Inductor fuses these best."""
    widths = (16, 32, 64, 64)
    blocks = [
        layer
        for before, after in pairwise(widths)
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU())
    ]
    return nn.Sequential(*blocks), torch.randn(4, widths[0], 56, 56)


def mlp() -> Made:
    """Build small layers, for which the cost of a call shows."""
    return nn.Sequential(*[m for _ in range(6) for m in (nn.Linear(256, 256), nn.GELU())]), (
        torch.randn(64, 256)
    )


CASES: Mapping[str, Callable[[], Made]] = {
    "MLP of 6 layers": mlp,
    "3 conv blocks": conv_net,
    "ResNet-18": MODELS["ResNet-18"],
}


class InlineHook:
    """Measures with plain operations: float32 sums about the running mean, float64 merge."""

    def __init__(self, rule: ChannelRule) -> None:
        self._rule = rule
        self._words: Tensor | None = None

    def prepare(self, x: Tensor) -> None:
        """Make the state for the channels of `x`, before anything is compiled."""
        self._dim = self._rule.resolve(x.shape)
        self._words = State.identity(x.shape[self._dim]).words

    def __call__(self, module: nn.Module, args: object, x: Tensor) -> None:
        """Merge the statistics of the output."""
        if self._words is None:
            self.prepare(x)
            return
        state = State(self._words)
        state.words.copy_(merge(state, _measure(x.detach(), self._dim, state)).words)


def _measure(x: Tensor, dim: int, state: State) -> State:
    over = [d for d in range(x.dim()) if d != dim]
    shape = [1] * x.dim()
    shape[dim] = -1
    finite = torch.isfinite(x)
    pivot = state["mean"].to(torch.float32)
    d = torch.where(finite, x - pivot.view(shape), 0.0)

    def count(where: Tensor) -> Tensor:
        return where.sum(over, dtype=torch.int64)

    n = count(finite)
    share = 1.0 / n.clamp(min=1)
    total, squares = (t.sum(over, dtype=torch.float32).double() for t in (d, d * d))
    fields = {
        "count": torch.full_like(n, x.numel() // x.shape[dim]),
        "nan": count(torch.isnan(x)),
        "pos_inf": count(x == torch.inf),
        "neg_inf": count(x == -torch.inf),
        "zeros": count(x == 0),
        "sat_low": torch.zeros_like(n),
        "sat_high": torch.zeros_like(n),
        "mean": pivot.double() + total * share,
        "m2": (squares - total * total * share).clamp(min=0.0),
        "min": torch.where(finite, x, torch.inf).amin(over).double(),
        "max": torch.where(finite, x, -torch.inf).amax(over).double(),
    }
    return State.of({name: fields[name] for name in (*COUNTS, *MOMENTS)})


def compiled_ways(name: str) -> tuple[dict[str, Callable[[], object]], fmstats.Tracker]:
    """Return the compiled model alone, tracked, and with inline measurements; and the tracker."""
    torch.compiler.reset()
    made = {}
    for way in ("compiled", "fmstats", "inline"):
        torch.manual_seed(0)
        made[way] = CASES[name]()
        made[way][0].eval()
    model, x = made["inline"]
    rules = channel_rules(model)
    for layer, module in model.named_modules():
        if is_leaf(module):
            module.register_forward_hook(InlineHook(rules[layer]))
    model(x)
    tracker = fmstats.track(made["fmstats"][0])  # before anything is compiled: it forgets graphs
    ways: dict[str, Callable[[], object]] = {}
    for way, (model, x) in made.items():
        network = torch.compile(model, dynamic=False)
        ways[way] = partial(network, x)
        ways[way]()
    return ways, tracker


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per model."""
    options = options_of(__doc__ or "").parse_args(argv)
    torch._dynamo.config.recompile_limit = 64
    print_line(("model", "compiled ms", "fmstats", "inline"), WIDTHS)
    rows = []
    with torch.no_grad():
        for name in list(CASES)[:1] if options.quick else CASES:
            ways, tracker = compiled_ways(name)
            seconds = time_in_turn(ways, 3 if options.quick else 15)
            assert tracker.stats(), "nothing was measured"
            row = {
                "model": name,
                "compiled_ms": 1e3 * median(seconds["compiled"]),
                "fmstats": ratio(seconds, "fmstats", "compiled"),
                "inline": ratio(seconds, "inline", "compiled"),
            }
            print_line(list(row.values()), WIDTHS)
            rows.append(row)
    write_json(options.json, rows)


if __name__ == "__main__":
    main()

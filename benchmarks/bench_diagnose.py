"""Which faults does `diagnose` see, does it name the right layer, and what does it say of nothing?

    python benchmarks/bench_diagnose.py [--quick] [--json FILE] [--docs]

Healthy networks, trained on real data or with published weights, are profiled as they are and with
one fault at a time. A fault counts as seen if a rule that tells of it says so, as error or warning
or by a rule for information alone, and did not of the healthy network; as located if the first
such finding in the order of execution is at the layer that has the fault. `--docs` writes the table
into docs/diagnose.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import healthy_images as images
import healthy_sequences as sequences
import torch
from healthy_images import Made
from interleave import options_of, print_line, write_json
from planted_faults import HELD_OUT, KINDS, Kind, Network, Place, plant
from torch import Tensor, nn

import fmstats
from fmstats import Finding, Profile

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
import page_tables  # noqa: E402  # found there

PAGE = DOCS / "diagnose.md"
WIDTHS = (14, 7, 9, 8, 6, 6, 8)
HEADER = ("network", "layers", "warnings", "silent", "faults", "seen", "located")
# A channel that was 0 in all of its elements, or nearly all, is a fact, and no false warning.
TRUE = ("never-active", "dead")
FOR_INFORMATION = ("outlier",)  # alone, and yet they report a fault

# The networks and kinds of faults that rules and thresholds were chosen on, and those not.
CHOSEN_ON: Mapping[str, Callable[[], Made]] = {
    "deep_mlp": images.deep_mlp,
    "sigmoid_mlp": images.sigmoid_mlp,
    "resnet": images.resnet,
    "mobilenet_v2": images.mobilenet_v2,
    "unet": images.unet,
    "lstm": sequences.lstm,
    "encoder": sequences.encoder,
    "experts": sequences.experts,
    "bert": sequences.bert,
    "gpt2": sequences.gpt2,
    "convnext": sequences.convnext,
    # Held out until their misses led to the rule for first layers.
    "face_rnet": images.face_rnet,
    "vit": sequences.vit,
}
OTHERS: Mapping[str, Callable[[], Made]] = {
    "tanh_mlp": images.tanh_mlp,
    "plain_cnn": images.plain_cnn,
    "excited": images.excited,
    "autoencoder": images.autoencoder,
    "face_onet": images.face_onet,
    "gru": sequences.gru,
    "tanh_rnn": sequences.tanh_rnn,
    "llama": sequences.llama,
}
QUICK = ("sigmoid_mlp", "tanh_mlp")  # trained in a second


Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """Holds what was said of one fault.

    Attributes:
        seen: whether a rule that tells of it does.
        named: the layer that the first such finding names; "" for none.
        located: whether that layer has the fault.
    """

    network: str
    kind: str
    layers: tuple[str, ...]
    seen: bool
    named: str
    located: bool


def make(name: str, made: Callable[[], Made]) -> tuple[Network, Profile]:
    """Make a healthy network, the same in every run, and its profile."""
    torch.manual_seed(0)
    model, batches = made()
    profile = measure(model, batches)
    return Network(model, batches, list(profile)), profile


def measure(model: nn.Module, batches: Sequence[Tensor]) -> Profile:
    """Return the profile of every leaf module's output."""
    with torch.no_grad(), fmstats.track(model) as tracker:
        for batch in batches:
            model(batch)
    profile = tracker.stats()
    profile.metadata["samples"] = sum(len(batch) for batch in batches)
    return profile


def first_findings(profile: Profile) -> list[Finding]:
    """Return the first finding of each group, in the order of execution."""
    order = {name: i for i, name in enumerate(profile)}
    findings = [finding for finding in profile.diagnose() if finding.follows is None]
    return sorted(findings, key=lambda finding: order[finding.layer])


def try_fault(
    name: str,
    network: Network,
    before: Sequence[Finding],
    planted: tuple[str, Kind, Place, nn.Module],
) -> Outcome:
    """Return what is said of one fault and was not said of the healthy network."""
    title, kind, place, model = planted
    batches = network.batches if place.feed is None else [place.feed(x) for x in network.batches]
    if place.half:
        batches = [x.half() if x.is_floating_point() else x for x in batches]
    known = {(finding.layer, finding.rule, finding.channels) for finding in before}
    new = [
        finding.layer
        for finding in first_findings(measure(model, batches))
        if finding.rule in kind.rules
        and (finding.layer, finding.rule, finding.channels) not in known
        and (finding.severity != "info" or finding.rule in FOR_INFORMATION)
    ]
    named = new[0] if new else ""
    return Outcome(name, title, place.layers, bool(new), named, named in place.layers)


def run(
    made: Mapping[str, Callable[[], Made]], kinds: Mapping[str, Kind], seed: str
) -> tuple[list[Row], list[Outcome]]:
    """Return a row for each network, and what was said of each fault."""
    rows, outcomes = [], []
    for name, maker in made.items():
        network, profile = make(name, maker)
        before = first_findings(profile)
        warnings = [finding for finding in before if finding.severity != "info"]
        silent = [finding for finding in warnings if finding.rule in TRUE]
        own = [try_fault(name, network, before, fault) for fault in plant(network, kinds, seed)]
        outcomes += own
        counts = (len(profile), len(warnings) - len(silent), len(silent), *_count(own))
        rows.append(dict(zip(HEADER, (name, *counts), strict=True)))
        print_line([rows[-1][key] for key in HEADER], WIDTHS)
    return rows, outcomes


def _count(outcomes: Sequence[Outcome]) -> tuple[int, int, int]:
    """Count the faults: all, those seen, and those located."""
    seen, located = (sum(getattr(o, what) for o in outcomes) for what in ("seen", "located"))
    return len(outcomes), seen, located


def make_tables(parts: Mapping[str, tuple[list[Row], list[Outcome]]]) -> str:
    """Make the page's tables: all faults, by network and by kind, and those that were missed."""
    lines = ["| | networks | faults | seen | at the right layer |", "|---|---:|---:|---:|---:|"]
    for title, (rows, outcomes) in parts.items():
        lines.append(f"| {title} | {len(rows)} | {_shares(outcomes)} |")
    lines += ["", "| network | warnings as it is | of silent channels | faults | seen | located |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    for rows, _ in parts.values():
        for row in rows:
            keys = ("network", "warnings", "silent", "faults", "seen", "located")
            lines.append(f"| {' | '.join(str(row[key]) for key in keys)} |")
    lines += ["", "| fault | rules that tell of it | faults | seen | at the right layer |"]
    lines.append("|---|---|---:|---:|---:|")
    everything = [outcome for _, outcomes in parts.values() for outcome in outcomes]
    for name, kind in {**KINDS, **HELD_OUT}.items():
        of_kind = [outcome for outcome in everything if outcome.kind == name]
        rules = ", ".join(f"`{rule}`" for rule in kind.rules)
        if of_kind:
            lines.append(f"| {name} | {rules} | {' | '.join(map(str, _count(of_kind)))} |")
    missed = [f"{o.kind} in {o.network}" for o in everything if not o.seen]
    astray = [
        f"{o.kind} in {o.network} ({o.named})" for o in everything if o.seen and not o.located
    ]
    for word, which in (("Not seen", missed), ("Seen at another layer", astray)):
        lines += ["", f"{word}: {'; '.join(which) or 'none'}."]
    return "\n".join(lines)


def _shares(outcomes: Sequence[Outcome]) -> str:
    faults, seen, located = _count(outcomes)
    return f"{faults} | {100 * seen / faults:.1f} % | {100 * located / faults:.1f} %"


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row for each network, then how many faults were seen and located."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--docs", action="store_true", help="write the tables into the page")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # sums in one order: the same networks on any machine of a kind
    print_line(HEADER, WIDTHS)
    parts = {}
    for title, made, kinds, seed in (
        ("thresholds chosen on these", CHOSEN_ON, KINDS, "0"),
        ("held out", OTHERS, {**KINDS, **HELD_OUT}, "1"),
    ):
        chosen = {n: m for n, m in made.items() if n in QUICK} if options.quick else made
        parts[title] = run(chosen, kinds, seed)
    tables = make_tables(parts)
    print(f"\n{tables}")
    rows = [asdict(outcome) for _, outcomes in parts.values() for outcome in outcomes]
    write_json(options.json, rows)
    if options.docs:
        page = page_tables.renew(PAGE.read_text(encoding="utf-8"), "bench", tables)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()

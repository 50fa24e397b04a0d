"""The bench of faults: a short run of it, what it counts, and that its table is in the page."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from diagnosis_profiles import scaled
from torch import nn

from fmstats import Profile
from fmstats.diagnosis import RULES

pytest.importorskip("sklearn", reason="needs scikit-learn, whose digits networks are trained on")

bench = importlib.import_module("bench_diagnose")
faults = importlib.import_module("planted_faults")

PAGE = Path(__file__).parent.parent / "docs" / "diagnose.md"
KINDS = {**faults.KINDS, **faults.HELD_OUT}


@pytest.fixture(scope="module")
def outcomes() -> tuple[list[dict[str, object]], list[object]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quick = {n: m for n, m in {**bench.CHOSEN_ON, **bench.OTHERS}.items() if n in bench.QUICK}
    try:
        rows, found = bench.run(quick, KINDS, "0")
    finally:
        torch.set_num_threads(threads)
    return rows, found


def test_planted_faults_are_seen_where_they_are(outcomes: tuple[list, list]) -> None:
    _, found = outcomes
    assert len(found) >= 25
    missed = [outcome for outcome in found if not outcome.located]
    assert sum(outcome.seen for outcome in found) >= 0.95 * len(found), missed
    assert sum(outcome.located for outcome in found) >= 0.9 * len(found), missed


def test_healthy_networks_have_one_warning_at_most(outcomes: tuple[list, list]) -> None:
    rows, _ = outcomes
    assert {row["network"] for row in rows} == set(bench.QUICK)
    assert all(row["warnings"] <= 1 for row in rows)


def test_rules_of_kinds_exist() -> None:
    assert not faults.KINDS.keys() & faults.HELD_OUT.keys()
    assert not bench.CHOSEN_ON.keys() & bench.OTHERS.keys()
    assert len(bench.CHOSEN_ON | bench.OTHERS) >= 12
    assert all(set(kind.rules) <= set(RULES) for kind in KINDS.values())


def network() -> tuple[object, Profile]:
    """Four layers; its profile is none of a run."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh())
    batches = [torch.randn(400, 4)]
    return faults.Network(model, batches, ["0", "1", "2", "3"]), bench.measure(model, batches)


def test_a_fault_changes_a_copy_of_its_layer_alone() -> None:
    healthy, _ = network()
    before = {name: value.clone() for name, value in healthy.model.state_dict().items()}
    planted = list(faults.plant(healthy, KINDS, "0"))
    assert len({title for title, *_ in planted}) == len(planted) >= 12
    for title, _, place, model in planted:
        changed = [
            name
            for name, value in model.float().state_dict().items()
            if not torch.equal(value, before[name]) and not place.half
        ]
        assert all(name.split(".")[0] in place.layers for name in changed), title
    assert all(torch.equal(v, before[n]) for n, v in healthy.model.state_dict().items())


def test_the_seed_draws_the_place() -> None:
    healthy, _ = network()
    kind = {"weights x 500": KINDS["weights x 500"]}
    drawn = [next(faults.plant(healthy, kind, str(seed)))[2].layers for seed in range(20)]
    assert set(drawn) == {("0",), ("2",)}
    assert drawn == [next(faults.plant(healthy, kind, str(seed)))[2].layers for seed in range(20)]


def test_what_was_said_before_is_not_seeing() -> None:
    """Nor is what another rule says, or the right rule at another layer locating."""
    healthy, _ = network()
    title = "NaN in a weight"
    planted = next(faults.plant(healthy, {title: KINDS[title]}, "0"))
    seen = bench.try_fault("net", healthy, [], planted)
    assert (seen.seen, seen.located, seen.named) == (True, True, planted[2].layers[0])
    before = bench.first_findings(bench.measure(planted[3], healthy.batches))
    assert not bench.try_fault("net", healthy, before, planted).seen
    other = faults.Kind(("sparse",), planted[1].places)
    assert not bench.try_fault("net", healthy, [], (title, other, *planted[2:])).seen
    elsewhere = faults.Place(("3",), planted[2].change)
    moved = bench.try_fault("net", healthy, [], (title, planted[1], elsewhere, planted[3]))
    assert (moved.seen, moved.located) == (True, False)


def test_shared_weights_are_left_alone() -> None:
    model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8, bias=False), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    tied = faults.Network(model, [], ["0", "1", "2"])
    assert (tied.weighted, tied.of(nn.Embedding)) == (["2"], [])


def test_tables() -> None:
    outcome = bench.Outcome("net", "weights 0", ("a",), True, "b", False)
    row = dict(zip(bench.HEADER, ("net", 5, 1, 2, 1, 1, 0), strict=True))
    text = bench.make_tables({"chosen": ([row], [outcome])})
    assert "| chosen | 1 | 1 | 100.0 % | 0.0 % |" in text
    assert "| net | 1 | 2 | 1 | 1 | 0 |" in text
    assert "| weights 0 | `constant` | 1 | 1 | 0 |" in text
    assert text.endswith("Not seen: none.\n\nSeen at another layer: weights 0 in net (b).")


def test_the_page_has_the_figures_of_both_parts() -> None:
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- bench -->")
    tables, found, _ = rest.partition("<!-- /bench -->")
    assert found
    for title in ("thresholds chosen on these", "held out"):
        assert f"\n| {title} | " in tables


def test_help_asks_the_question(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench.main(["--help"])
    assert ended.value.code == 0
    assert "python benchmarks/bench_diagnose.py" in capsys.readouterr().out


def test_stories_are_in_the_order_of_execution() -> None:
    layers = [scaled(1.0), scaled(1.0), scaled(1.0), scaled(500.0), scaled(1.0)]
    profile = Profile(dict(zip("edcba", layers, strict=True)), {})
    assert [f.layer for f in bench.first_findings(profile) if f.rule == "exploding"] == ["b"]

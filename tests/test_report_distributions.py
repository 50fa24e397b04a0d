"""The report draws histograms where there are any, and those of the baseline over them."""

from __future__ import annotations

import re

import pytest
import torch
from profile_files import layer_of, profile_of, some_profile

from fmstats.profiles.profile import Profile
from fmstats.report.distributions import draw_distributions
from fmstats.report.writing import render
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures

pytest.importorskip("jinja2", reason="needs jinja2")

HISTOGRAM = Measures.of("histogram", Bins("channel", 2))


def heights(path: str, width: int) -> list[float]:
    """The height of each place under a path, from 0 to 1."""
    found, height, at = [0.0] * width, 0.0, 0
    for place, y in re.findall(r"H([0-9]+)V([0-9.]+)", path):
        found[at : int(place)] = [height] * (int(place) - at)
        at, height = int(place), 1 - float(y) / 20
    assert at == width
    return found


def drawn(profile: Profile, comparison: object = None) -> tuple[dict, list[list[list[float]]]]:  # type: ignore[type-arg]
    found = draw_distributions(profile, profile.layers(), comparison)  # type: ignore[arg-type]
    assert found is not None
    paths = [row["paths"] for row in found["layers"]]
    return found, [[heights(path, found["width"]) for path in each] for each in paths]


def test_bars_are_the_shares_of_octaves() -> None:
    x = torch.tensor([[-3.0], [0.0], [0.0], [1.0], [1.5], [1.1], [1.2], [0.25]])
    found, ((bars,),) = drawn(profile_of({"a": layer_of(x, measures=HISTOGRAM)}))
    assert (found["least"], found["most"], found["width"]) == ("0.5", "4", 11)
    #          -4..-2                zeros                 to 2
    assert bars == [0.25, 0, 0, 0, 0, 0.5, 0, 0.25, 0, 1, 0]


def test_all_layers_have_one_axis() -> None:
    layers = {
        "small": layer_of(torch.full((4, 2), 0.25), measures=HISTOGRAM),
        "plain": layer_of(torch.ones(4, 2)),
        "large": layer_of(torch.full((4, 2), -4.0), measures=HISTOGRAM),
        "nothing": layer_of(torch.zeros(0, 2), measures=HISTOGRAM),
    }
    found, bars = drawn(profile_of(layers))
    assert [row["layer"] for row in found["layers"]] == ["small", "large", "nothing"]
    assert [each[0].index(1) for each in bars[:2]] == [8, 0]
    assert not any(bars[2][0])


def shards() -> tuple[Profile, Profile]:
    torch.manual_seed(0)
    now, before = (torch.randn(400, 3).abs() + 1 for _ in range(2))
    return tuple(  # type: ignore[return-value]
        profile_of({n: layer_of(x * k, measures=HISTOGRAM) for n, k in layers}, samples=400)
        for x, layers in ((now, (("a", 4), ("b", 1))), (before, (("b", 1), ("a", 1))))
    )


def test_the_baseline_is_drawn_over_them() -> None:
    now, before = shards()
    found, ((a, a_before), (b, b_before)) = drawn(now, now.compare(before))
    assert found["drift"]
    assert a.index(max(a)) == a_before.index(max(a_before)) + 2  # four times as large
    assert b.index(max(b)) == b_before.index(max(b_before))
    assert max(*b, *b_before) == 1  # both on one scale
    plain = now.compare(before.narrowed())
    assert not drawn(now, plain)[0]["drift"]


def test_a_baseline_that_reaches_farther_is_drawn_whole() -> None:
    """And higher, where more of its elements are in one octave."""
    now, before = (
        profile_of({"a": layer_of(x, measures=HISTOGRAM)}, samples=2)
        for x in (torch.tensor([[1.0], [2.0]]), torch.tensor([[9.0], [9.0]]))
    )
    found, ((bars, of_baseline),) = drawn(now, now.compare(before))
    assert found["most"] == "16"
    assert (max(bars), max(of_baseline)) == (0.5, 1)


def test_the_page_shows_them() -> None:
    now, before = shards()
    html, compared = render(now), render(now, now.compare(before))
    assert html.count('<path class="now"') == 2
    assert 'class="before"' not in html
    assert "The line is the baseline" not in html
    assert compared.count('<path class="before"') == 2
    assert "The line is the baseline" in compared
    row = now.layers()[0]
    label = f'aria-label="1 % of the elements are below {row["p1"]:.4g}, half below'
    assert label in html
    assert '"p99": [' in html


def test_nothing_is_shown_of_what_was_not_measured() -> None:
    html = render(some_profile(measures=Measures.of("abs")))
    assert 'id="distributions"' not in html
    assert '"p99": [' not in html
    assert draw_distributions(some_profile(), some_profile().layers(), None) is None


def test_a_histogram_takes_little_room() -> None:
    torch.manual_seed(0)
    layers = {f"l{i}": layer_of(torch.randn(300, 2), measures=HISTOGRAM) for i in range(20)}
    with_histograms = profile_of(layers)
    more = len(render(with_histograms)) - len(render(with_histograms.narrowed()))
    assert more < 20 * 1000 + 1000

"""The report in a real browser: what is seen, what can be done, what names cannot do."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Tab, launch
from profile_files import layer_of, profile_of, some_profile
from report_profiles import (
    MARKUP,
    broken_profile,
    draw_state,
    grouped_profile,
    hostile_profile,
    large_profile,
)
from torch import nn

import fmstats
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.report import write_report
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import Measures
from fmstats.statistic.thresholds import Thresholds

pytest.importorskip("jinja2", reason="needs jinja2")

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 900}}
MOST_BYTES, MOST_SECONDS = 10_000_000, 3.0
# The pixels of a strip, off a copy: Chromium warns of a canvas that is read again and again.
READ = """n => {
  const strip = document.querySelector(`#layer-${n} canvas`);
  const copy = new OffscreenCanvas(strip.width, strip.height);
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(strip, 0, 0);
  return [...context.getImageData(0, 0, strip.width, strip.height).data];
}"""
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as browser:
        yield browser


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Opens a profile's report; at the end of the test nothing may have gone wrong in any."""
    tabs: list[Tab] = []

    def open_report(profile: Profile, comparison: Any = None, **options: Any) -> Any:
        path = tmp_path / f"{len(tabs)}.html"
        write_report(profile, path, comparison)
        tabs.append(Tab(browser, path, **{**DESK, **options}))
        return tabs[-1].page

    yield open_report
    for tab in tabs:
        tab.close()


@pytest.fixture(scope="module")
def faulty() -> Profile:
    """A layer with a dead channel, one with a NaN, a sound one whose channel i has mean i."""
    torch.manual_seed(0)
    dead, bad, sound = torch.randn(1000, 4), torch.randn(1000, 4), torch.randn(1000, 30)
    dead[:, 0], bad[0, 0] = 0, torch.nan
    sound = sound / 10 + torch.arange(30)  # no collapse: deviations that are not lost in the means
    info = {"a.relu": layer_of(dead, type="ReLU"), "b.conv": layer_of(bad), "c": layer_of(sound)}
    return profile_of(info, samples=1000)


def names(page: Any) -> list[str]:
    """The layers that the table shows, from top to bottom."""
    return page.locator("#table tbody tr:not([hidden]) th bdi").all_text_contents()


def background(page: Any) -> list[int]:
    colour = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return [int(part) for part in colour[4:-1].split(",")]


def fits(page: Any) -> bool:
    """Whether nothing has to be scrolled sideways."""
    # Not innerWidth, which grows with the content on a phone.
    return page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def pixels(page: Any, layer: int) -> list[list[int]]:
    """The colours of a strip, which is drawn when it comes into view."""
    page.locator(f"#layer-{layer}").scroll_into_view_if_needed()
    flat = page.wait_for_function(
        f"n => {{ const found = ({READ})(n); return found.some(Boolean) && found; }}",
        arg=layer,
    ).json_value()
    return np.reshape(flat, (-1, 4)).tolist()


def test_findings_are_seen_and_lead_to_their_layer(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    assert page.locator("#verdict-findings").inner_text().strip() == "1 error, 1 warning"
    assert page.locator(".verdict li").first.inner_text() == "non-finite in 1 layer, first b.conv"
    assert page.locator("#rule-error-non-finite").get_by_text("What to do").is_visible()
    page.click("#rule-error-non-finite a.layer")
    dialog = page.locator("#details")
    assert dialog.is_visible()
    assert dialog.locator("h2").inner_text() == "b.conv"
    assert "non-finite. 1 of 4 channels (0): 1 NaN" in dialog.inner_text()
    assert page.locator("#layer-1").evaluate("row => row.classList.contains('target')")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()


def test_a_link_from_outside_opens_its_layer(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    page.goto(page.url + "#layer-2")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#details h2").inner_text() == "c"


def test_sort(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    head = page.locator("#table th[data-key=mean]")
    head.locator("button").click()
    assert names(page)[0] == "c"
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").click()
    assert names(page)[-1] == "c"
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.locator("#table [aria-sort]").count() == 1
    page.locator("#table th[data-key=findings] button").press("Enter")
    assert names(page)[0] == "b.conv"
    page.select_option("#statistic", "std")
    page.locator("#table th[data-key=statistic] button").click()
    assert names(page)[-1] == "c"


def test_search(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    page.fill("#search", "RELU")
    assert names(page) == ["a.relu"]
    assert page.locator("#shown").inner_text() == "1 of 3 layers"
    page.fill("#search", "")
    page.check("#grave")
    assert names(page) == ["a.relu", "b.conv"]
    page.evaluate("document.querySelector('#layer-2 a').click()")  # brings it back
    assert names(page) == ["a.relu", "b.conv", "c"]


def test_strips_show_every_channel(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    colours = pixels(page, 2)
    assert len(colours) == 30
    assert len({tuple(colour) for colour in colours}) > 20  # means from 0 to 29
    page.select_option("#statistic", "sparsity")
    dead, *others = pixels(page, 0)
    assert others == [others[0]] * 3
    assert dead != others[0]


def test_cells_in_order_of_their_value(show: Open) -> None:
    order = torch.tensor([3.0, 0.0, 4.0, 1.0, 2.0])
    page = show(profile_of({"a": layer_of(torch.randn(400, 5) / 100 + order)}))
    by_number = pixels(page, 0)
    page.select_option("#cells", "value")
    assert pixels(page, 0) == [by_number[i] for i in order.argsort().tolist()]


def test_a_cell_tells_its_numbers(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    strip = page.locator("#layer-2 canvas")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 7.5 / 30, box["y"] + 5)
    tip = page.locator("#tip")
    assert "Channel 7" in tip.inner_text()
    assert f"{faulty['c'].mean[7]:.4g}" in tip.inner_text()
    page.mouse.move(0, 0)
    assert not tip.is_visible()


def test_strips_by_keyboard(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    page.locator("#layer-0 a").focus()
    page.keyboard.press("Tab")
    strip = page.locator("#layer-0 canvas")
    assert strip.evaluate("canvas => canvas === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert strip.get_attribute("aria-valuetext").startswith("channel 1: mean ")
    assert strip.get_attribute("aria-valuenow") == "1"
    assert "Channel 1" in page.locator("#tip").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#layer-1 canvas").evaluate("canvas => canvas === document.activeElement")
    assert page.locator(".strip canvas[tabindex='0']").count() == 1
    page.keyboard.press("Enter")
    assert page.locator("#details h2").inner_text() == "b.conv"


def test_curves_by_keyboard(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    chart = page.locator(".chart .plot").first
    chart.focus()
    page.keyboard.press("End")
    assert page.locator("#readout").inner_text().startswith("2: c, mean 14.5")
    page.keyboard.press("Enter")
    assert page.locator("#details h2").inner_text() == "c"


def test_details_rank_channels(show: Open, faulty: Profile) -> None:
    page = show(faulty)
    page.click("#layer-2 a")
    dialog = page.locator("#details")
    rows = dialog.locator("tbody th")
    assert rows.all_inner_texts() == [str(29 - i) for i in range(20)]
    dialog.get_by_role("button", name="std", exact=True).click()
    order = np.argsort(-faulty["c"].std)
    assert rows.all_inner_texts()[:3] == [str(channel) for channel in order[:3]]
    assert dialog.locator("[aria-sort]").inner_text() == "std"
    assert page.input_value("#statistic") == "std"
    assert dialog.locator("canvas").count() == 1
    dialog.get_by_label("Layer before").click()
    assert dialog.locator("h2").inner_text() == "b.conv"


def test_details_show_the_channels_that_findings_name_first(show: Open) -> None:
    """Also where the chosen statistic ranks them last, as it does silent channels by their mean."""
    torch.manual_seed(0)
    x = torch.randn(1000, 32).abs() + torch.arange(1.0, 33.0)
    silent = [0, 16, 17, 23]
    x[:, silent], x[0, 5] = 0, torch.nan
    page = show(profile_of({"relu": layer_of(x, type="ReLU")}, samples=1000))
    page.locator(".verdict li a.layer").first.click()
    dialog = page.locator("#details")
    assert dialog.locator("#details-kind").inner_text() == "ReLU, layer 1 of 1"
    first = dialog.locator("tbody th")
    assert first.all_inner_texts()[:7] == [*map(str, [5, *silent]), "31", "30"]
    rules = [" ".join(text.split()) for text in dialog.locator("td.rules").all_inner_texts()]
    assert rules == ["error: non-finite", *["warning: never-active"] * 4, *[""] * 15]
    assert "those that findings name first" in dialog.locator("#details-top").inner_text()
    assert dialog.locator("#details-key").is_visible()
    dialog.get_by_role("button", name="min", exact=True).click()
    assert first.all_inner_texts()[:5] == ["5", *map(str, silent)]


def test_details_without_named_channels_have_no_column_of_findings(show: Open) -> None:
    torch.manual_seed(0)
    page = show(profile_of({name: layer_of(torch.randn(1000, 4)) for name in "abc"}, samples=1000))
    page.click("#layer-2 a")
    dialog = page.locator("#details")
    assert dialog.locator("#details-kind").inner_text() == "Conv2d, layer 3 of 3"
    assert "finding" not in dialog.locator("thead").inner_text()
    assert not dialog.locator("#details-key").is_visible()


@pytest.mark.parametrize(("layers", "whole"), [(299, True), (300, False)])
def test_all_of_a_short_table_is_laid_out_and_drawn(show: Open, layers: int, whole: bool) -> None:
    page = show(large_profile(layers, channels=8))
    last = page.locator("#table tbody tr").last
    assert last.evaluate("row => getComputedStyle(row).contentVisibility") == (
        "visible" if whole else "auto"
    )
    assert any(page.evaluate(READ, layers - 1)) == whole


def test_hostile_names_are_text(show: Open) -> None:
    page = show(hostile_profile())
    assert page.title().startswith("<script>alert(1)</script>")
    assert names(page)[0] == MARKUP
    assert page.locator("img").count() == 0
    for layer in range(9):
        page.evaluate("n => document.querySelector(`#layer-${n} a`).click()", layer)
        shown = page.locator("#details h2").inner_text()
        assert shown == page.locator(f"#layer-{layer} th bdi").inner_text()
    page.evaluate("document.querySelector('.chart .plot').focus()")
    page.keyboard.press("Escape")
    page.locator(".chart .plot").first.press("Home")
    assert MARKUP in page.locator("#readout").inner_text()
    assert page.locator("img").count() == 0
    assert fits(page)


def small_net() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())


@pytest.mark.parametrize(
    "make",
    [
        broken_profile,
        some_profile,
        lambda: some_profile(0) | some_profile(1),
        lambda: Profile({}, {}),
        lambda: fmstats.profile(small_net(), torch.randn(1, 4), progress=False),
        lambda: fmstats.profile(small_net(), torch.full((8, 4), torch.nan), progress=False),
        lambda: profile_of({"narrow": layer_of(torch.zeros(4, 0))}),
    ],
    ids=["broken", "sound", "merged", "empty", "one-sample", "all-nan", "no-channels"],
)
def test_hard_profiles_open(show: Open, make: Callable[[], Profile]) -> None:
    profile = make()
    page = show(profile)
    for layer in range(len(profile)):
        page.evaluate("n => document.querySelector(`#layer-${n} a`).click()", layer)
        assert page.locator("#details").is_visible()
    for statistic in page.locator("#statistic option").all():
        page.select_option("#statistic", statistic.get_attribute("value"), force=True)
    assert page.evaluate("document.documentElement.dataset.ready") == "yes"


def test_without_javascript(show: Open, faulty: Profile) -> None:
    page = show(faulty, java_script_enabled=False)
    assert page.locator("#verdict-findings").is_visible()
    assert page.get_by_text("What to do").first.is_visible()
    assert page.locator("#table tbody tr").count() == 3
    assert page.locator("#layer-2").is_visible()
    assert page.get_by_text("samples: 1000").is_visible()
    assert not page.locator("#search").is_visible()
    assert page.get_by_text("The curves need JavaScript").is_visible()


@pytest.fixture(scope="module")
def drifted() -> tuple[Profile, Any]:
    now, old = (large_profile(layers=24, channels=50, seed=seed) for seed in (0, 1))
    return now, now.compare(old)


def open_all(page: Any) -> None:
    """Show what has to be unfolded."""
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def test_long_names_fit_a_phone(show: Open) -> None:
    page = show(hostile_profile(), **PHONE)
    open_all(page)
    assert fits(page)
    page.evaluate("document.querySelector('#layer-8 a').click()")  # the one of 10,000 characters
    assert fits(page)
    dialog = page.locator("#details")
    assert dialog.evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


@pytest.mark.parametrize("opened", [False, True])
def test_phone(show: Open, drifted: tuple[Profile, Any], opened: bool) -> None:
    page = show(*drifted, **PHONE)
    assert fits(page)
    open_all(page)
    assert fits(page)
    if opened:
        page.evaluate("document.querySelector('#layer-3 a').click()")
        box = page.locator("#details").bounding_box()
        assert (box["x"], box["width"]) == (0, 390)
        assert fits(page)


def test_phones_sort_by_a_list(show: Open, faulty: Profile) -> None:
    page = show(faulty, **PHONE)
    page.select_option("#sort", "mean")
    assert names(page)[0] == "c"


def test_dark_mode(show: Open, drifted: tuple[Profile, Any]) -> None:
    dark = show(*drifted, color_scheme="dark")
    light = show(*drifted, color_scheme="light")
    assert max(background(dark)) < 40
    assert min(background(light)) > 220
    assert pixels(dark, 0) != pixels(light, 0)  # 0 is dark on dark
    before = pixels(light, 0)
    light.emulate_media(color_scheme="dark")
    light.wait_for_function("getComputedStyle(document.documentElement).color !== ''")
    assert max(background(light)) < 40
    assert pixels(light, 0) == pixels(dark, 0) != before


def test_print_is_light_and_whole(show: Open, drifted: tuple[Profile, Any]) -> None:
    page = show(*drifted, color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    assert min(background(page)) > 220
    last = page.evaluate(READ, 23)
    assert set(last[3::4]) == {255}  # drawn, though never in view


def test_print_without_javascript_is_light(show: Open, faulty: Profile) -> None:
    page = show(faulty, color_scheme="dark", java_script_enabled=False)
    assert max(background(page)) < 40
    page.emulate_media(media="print", color_scheme="dark")
    assert min(background(page)) > 220


def test_drift(show: Open, drifted: tuple[Profile, Any]) -> None:
    now, found = drifted
    page = show(now, found)
    assert page.locator("#verdict-drift").inner_text().strip() == "Drift"
    assert page.locator(".score strong").inner_text() == f"{found.score:.4g}"
    first = page.locator("#drift table").first.locator("tbody th").first
    assert first.inner_text() == found.top_layers(1)[0]["layer"]
    assert page.locator(".chart").count() == 5  # NaN and infinities among them
    page.locator("#table th[data-key=score] button").click()
    assert names(page)[0] == first.inner_text()
    page.select_option("#statistic", "shift")
    assert len({tuple(colour) for colour in pixels(page, 0)}) > 10


def test_headings_labels_and_scopes(show: Open, drifted: tuple[Profile, Any]) -> None:
    page = show(*drifted)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))"
    )
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    unnamed = page.evaluate(
        "[...document.querySelectorAll('canvas')].filter(c => !c.closest('[aria-label]') && "
        "c.ariaHidden !== 'true').length"
    )
    assert unnamed == 0
    assert page.locator("th:not([scope])").count() == 0
    unlabelled = page.evaluate(
        "[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length"
    )
    assert unlabelled == 0
    assert page.locator("#table").get_by_role("rowheader").count() == 24


def test_a_wide_layer_has_a_cell_for_every_channel(show: Open) -> None:
    size = 30_000
    stats = ChannelStats(draw_state(size, False), Thresholds())
    layer = LayerProfile("Linear", 1, (1000, size), "float32", 1, "reference", stats)
    page = show(profile_of({"wide": layer}))
    canvas = page.locator(".strip canvas")
    assert canvas.evaluate("c => c.width * c.height") >= size
    assert canvas.bounding_box()["height"] <= 260
    assert sum(alpha == 255 for *_, alpha in pixels(page, 0)) == size


def test_a_large_page_opens_at_once(browser: Any, tmp_path: Path) -> None:
    now, old = large_profile(), large_profile(seed=1)
    path = tmp_path / "large.html"
    write_report(now, path, now.compare(old))
    assert path.stat().st_size < MOST_BYTES
    seconds = []
    for _ in range(3):  # the page's time, not that of the machine's other work: the least of three
        begun = time.perf_counter()
        tab = Tab(browser, path, **DESK)
        seconds.append(time.perf_counter() - begun)
        if seconds[-1] < MOST_SECONDS:
            break
        tab.close()
    assert min(seconds) < MOST_SECONDS
    assert len(names(tab.page)) == 500
    tab.page.fill("#search", "blocks.124.mlp.3")
    assert names(tab.page) == ["blocks.124.mlp.3"]
    tab.page.wait_for_timeout(100)
    assert len(pixels(tab.page, 499)) >= 400
    tab.close()


def cells(page: Any) -> list[str]:
    """The means that the table shows."""
    return page.locator("#table td[data-label=mean]").all_inner_texts()


def choose(page: Any, group: str) -> None:
    page.select_option("#group", label=group)
    page.wait_for_selector("html[data-ready]")


def test_a_group_takes_the_place_of_all(show: Open) -> None:
    profile = grouped_profile()
    page = show(profile)
    assert page.locator("#group option").all_inner_texts() == ["all", *profile.groups]
    whole, colours = cells(page), pixels(page, 0)
    for group, part in [*profile.groups.items(), ("all", profile), ("cat", profile.groups["cat"])]:
        choose(page, group)
        assert page.locator("#group option:checked").inner_text() == group
        assert page.evaluate("document.activeElement.id") == "group"
        assert names(page) == list(part)
        assert cells(page) == [f"{row['mean']:.4g}" for row in part.layers()]
        assert page.locator(".chart").count() == 3
        assert (page.locator(".verdict").inner_text().find("never-active") >= 0) == (group == "cat")
        assert (pixels(page, 0) == colours) == (group == "all")
        assert (cells(page) == whole) == (group == "all")


def test_a_group_works_as_all_do(show: Open) -> None:
    page = show(grouped_profile())
    for group in (MARKUP, "all", "cat"):
        choose(page, group)
    page.locator(".verdict a.layer").first.click()
    assert page.locator("#details h2").inner_text() == "a.relu"
    assert page.locator("#details-plot canvas").count() == 1
    page.keyboard.press("Escape")
    page.fill("#search", "nothing of that name")
    assert page.locator("#shown").inner_text() == "0 of 1 layers"
    page.emulate_media(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_groups_chosen_fast_leave_the_last_one(show: Open) -> None:
    page = show(grouped_profile())
    page.evaluate(
        """() => { for (const value of ["0", "1", "", "1", "0"]) {
          const choice = document.getElementById("group");
          choice.value = value;
          choice.dispatchEvent(new Event("change", { bubbles: true }));
        } }"""
    )
    page.wait_for_selector("html[data-ready]")
    page.wait_for_timeout(100)
    assert page.locator("#group option:checked").inner_text() == "cat"
    assert names(page) == ["a.relu"]
    assert page.locator(".chart").count() == 3
    assert page.locator(".strip canvas").count() == 1


def test_groups_on_a_phone(show: Open) -> None:
    page = show(grouped_profile(), **PHONE)
    assert fits(page)
    choose(page, MARKUP)
    assert fits(page)


def test_groups_need_javascript(show: Open) -> None:
    page = show(grouped_profile(), java_script_enabled=False)
    assert not page.locator("#group").is_visible()
    assert names(page) == ["a.relu", "b"]


def test_histograms_are_drawn_and_their_quantiles_along_the_depth(show: Open) -> None:
    torch.manual_seed(0)
    measures = Measures.of("histogram")
    x = torch.randn(400, 4)
    info = {name: layer_of(x * size, measures=measures) for name, size in (("a", 1), ("b", 4))}
    page = show(profile_of(info, samples=400))
    bars = page.locator("#distributions svg .now")
    assert bars.count() == 2
    assert all(bars.nth(i).bounding_box()["height"] > 30 for i in range(2))
    assert "1 % to 99 % of the elements" in page.locator("#charts").inner_text()
    chart = page.locator(".chart .plot").nth(1)
    chart.focus()
    page.keyboard.press("End")
    assert f"p99 {profile_of(info).layers()[1]['p99']:.4g}" in page.locator("#readout").inner_text()
    page.click("#distributions li:last-child a")
    assert page.locator("#details h2").inner_text() == "b"
    assert fits(show(profile_of(info), **PHONE))


def deep_profile() -> Profile:
    torch.manual_seed(0)
    bad = torch.randn(500, 4)
    bad[:, 1], bad[0, 0] = 0, torch.nan
    info = {f"stage.{i}.{j}": layer_of(torch.randn(500, 4)) for i in range(6) for j in range(10)}
    return profile_of({**info, "stage.3.7": layer_of(bad, type="ReLU")}, samples=1000)


def test_layers_of_a_large_model_are_folded_in_blocks(show: Open) -> None:
    page = show(deep_profile())
    assert names(page) == [f"stage.{i}" for i in range(6)]
    worst = page.locator("#table tr.block").nth(3)
    assert worst.locator("td[data-label='NaN+Inf']").inner_text().split()[-1] == "1"
    assert worst.locator("svg.icon.error").count() == 1
    assert worst.locator("button .kind").inner_text() == "10 layers"
    button = worst.locator("button")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    assert names(page)[3:15] == [
        *("stage.3", *(f"stage.3.{j}" for j in range(10))),
        "stage.4",
    ]
    assert any(any(pixel) for pixel in pixels(page, 37))  # its strip is drawn
    button.click()
    assert len(names(page)) == 6


def test_search_sort_and_links_find_layers_that_are_folded(show: Open) -> None:
    page = show(deep_profile())
    page.fill("#search", "stage.2.")
    assert names(page) == [f"stage.2.{j}" for j in range(10)]
    page.fill("#search", "")
    assert len(names(page)) == 6
    page.locator("#table th[data-key=nonfinite] button").click()
    assert names(page)[0] == "stage.3.7"
    assert len(names(page)) == 60
    page.locator("#table th[data-key=number] button").click()
    assert len(names(page)) == 6
    page.check("#unfold")
    assert len(names(page)) == 66
    page.uncheck("#unfold")
    page.locator("#findings a.layer").first.click()
    assert page.locator("#details-name").inner_text() == "stage.3.7"
    page.keyboard.press("Escape")
    assert "stage.3.7" in names(page)


def test_a_phone_shows_blocks_first(show: Open) -> None:
    page = show(deep_profile(), **PHONE)
    folded = page.evaluate("document.documentElement.scrollHeight")
    page.check("#unfold")
    assert page.evaluate("document.documentElement.scrollHeight") > 2 * folded

"""The report as a file: what is in it, what names cannot do to it, how large it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from profile_files import layer_of, profile_of, some_profile
from report_profiles import (
    HOSTILE,
    MARKUP,
    broken_profile,
    grouped_profile,
    hostile_profile,
    large_profile,
)
from torch import nn

import fmstats
from fmstats.diagnosis.rules import RULES
from fmstats.errors import FmstatsError
from fmstats.output.tables import format_number
from fmstats.profiles.profile import Profile
from fmstats.report import render, write_report
from fmstats.report.packing import pack
from fmstats.report.readable import MOST_SHOWN, make_readable
from fmstats.report.writing import _SCRIPTS

pytest.importorskip("jinja2", reason="needs jinja2")

Run = Callable[..., tuple[object, str, str]]
ASSETS = Path(fmstats.__file__).parent / "report" / "assets"
MOST_BYTES = 10_000_000


class Page(HTMLParser):
    """What a browser makes of a page, as far as these tests ask."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.text = ""
        self._raw: list[str] | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw = [] if tag in ("script", "style") else None
        if tag in ("dd", "dt", "li", "p"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._raw is None:
            self.text += data
        else:
            self._raw.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self.scripts.append((self.elements[-1][1], "".join(self._raw or [])))
        elif tag == "style":
            self.styles.append("".join(self._raw or []))
        self._raw = None

    @property
    def data(self) -> dict[str, object]:
        """The JSON of the page, as strict parsers read it."""
        (text,) = (text for attrs, text in self.scripts if attrs.get("id") == "data")
        return json.loads(text, parse_constant=pytest.fail)

    @property
    def packed(self) -> dict[str, np.ndarray]:
        """The statistics of the channels by key."""
        found = [(attrs, text) for attrs, text in self.scripts if attrs.get("class") == "packed"]
        return {str(attrs["data-key"]): unpack(text) for attrs, text in found}


def unpack(text: str) -> np.ndarray:
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(3, -1)
    low = np.zeros_like(planes[:1])
    return np.concatenate([low, planes[::-1]]).T.copy().view("<f4")[:, 0]


def shown(html: str) -> str:
    """Its text, with single spaces."""
    return " ".join(Page(html).text.split())


@pytest.fixture
def faulty() -> Profile:
    """A layer with a dead channel in four, one with a NaN, a sound one."""
    torch.manual_seed(0)
    dead, bad, sound = (torch.randn(1000, 4) for _ in range(3))
    dead[:, 0], bad[0, 0] = 0, torch.nan
    info = {"a.relu": layer_of(dead), "b.conv": layer_of(bad), "c": layer_of(sound)}
    return profile_of(info, samples=1000, batches=2, torch="2.0", started="monday", ended="friday")


def test_findings_come_first_and_lead_to_layers(faulty: Profile) -> None:
    html = render(faulty)
    order = [html.index(f'id="{part}"') for part in ("findings", "depth", "layers", "run")]
    assert order == sorted(order)
    text = shown(html)
    assert "1 error, 1 warning" in text
    assert "non-finite in 1 layer, first b.conv" in text
    assert "never-active in 1 layer, first a.relu" in text
    assert '<a class="layer" href="#layer-1"><bdi>b.conv</bdi></a>' in html
    assert re.search(r'id="layer-1">.*<bdi>b\.conv</bdi>', html)
    assert "1 of 4 channels (0): 1 NaN and 0 infinite of 4,000 elements" in text
    assert f"What to do: {RULES['non-finite'].advice}" in text


def test_numbers_that_are_not_finite_are_shown_along_the_depth(faulty: Profile) -> None:
    html = render(faulty)
    assert Page(html).data["layers"]["nan"] == [0, 1, 0]
    assert Page(html).data["layers"]["inf"] == [0, 0, 0]
    none = "There is no NaN and no infinity in any layer."
    assert none not in shown(html)
    assert none in shown(render(profile_of({"a": layer_of(torch.randn(10, 4))})))


def test_every_layer_has_its_row(faulty: Profile) -> None:
    html = render(faulty)
    for row in faulty.layers():
        assert f"<bdi>{row['layer']}</bdi>" in html
    (cells,) = re.findall(r'<tr role="row" id="layer-0">(.*)</tr>', html)
    texts = [re.sub("<.*?>", "", cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", cells)]
    assert texts[:2] == ["0", "a.reluConv2d"]
    assert texts[6:9] == ["25.0%", "1", "0"]


def test_a_layer_has_the_gravest_of_its_findings() -> None:
    torch.manual_seed(0)
    both = torch.randn(1000, 4)
    both[:, 0], both[0, 1] = 0, torch.nan
    page = Page(render(profile_of({"a": layer_of(both)})))
    assert page.data["layers"]["worst"] == ["error"]
    assert page.data["layers"]["findings"] == [2]


def test_the_run(faulty: Profile) -> None:
    text = shown(render(faulty))
    assert "samples: 1000, batches: 2" in text
    assert "from monday to friday" in text
    assert "torch 2.0" in text
    assert "3 layers 12 channels" in re.sub(r"(\w+) ([\d,]+)", r"\2 \1", text[:400])


def test_what_was_not_measured_is_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    model.add_module("spare", nn.Identity())
    model.forward = lambda x: model[1](model[0](x))
    profile = fmstats.profile(model, torch.randn(4, 3, 8, 8), progress=False)
    profile.metadata["skipped"] = ["broken.jpg"]
    text = shown(render(profile))
    assert "Not measured: 1 layer spare Identity: never fired" in text
    assert "Left out: 1 sample or batch broken.jpg" in text
    profile.metadata |= {"skipped": ["broken.jpg", "batch 7: refused"], "skipped_count": 5000}
    text = shown(render(profile))
    assert "Left out: 5,000 samples or batches broken.jpg batch 7: refused and 4,998 more" in text
    assert "skipped_count" not in text


def test_nothing_wrong_is_said_of_what_was_looked_at() -> None:
    """In green where every rule could judge every layer, and of no more than that."""
    model, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(1000, 4)
    measure = ("kurtosis", "histogram")
    page = render(fmstats.profile(model, x, measure=measure, progress=False))
    text = shown(page)
    assert "Nothing wrong found Looked at: 1 layer, 21 rules, 1,000 samples. 0 findings" in text
    assert 'class="verdict good"' in page
    assert "Nothing was found." in text
    page = render(fmstats.profile(model, x[:20], progress=False))
    assert 'class="verdict unknown"' in page
    assert (
        "Nothing wrong in what was looked at Looked at: 1 layer, 18 of 21 rules, 20 samples. Not "
        "looked at: 1 layer had too little data for"
    ) in shown(page)
    assert (
        "switch, heavy-tails need measure='kurtosis'; concentrated needs measure='histogr"
        in shown(page)
    )


def test_numbers_of_channels(faulty: Profile) -> None:
    page = Page(render(faulty))
    for key in ("mean", "std", "min", "max", "sparsity"):
        values = np.concatenate([getattr(stats, key) for stats in faulty.values()])
        np.testing.assert_allclose(page.packed[key], values, rtol=2**-16, err_msg=key)
    np.testing.assert_allclose(page.packed["nonfinite"], [0] * 4 + [0.001] + [0] * 7, rtol=2**-16)
    assert "saturated" not in page.packed  # no layer has bounds
    assert page.data["layers"]["channels"] == [4, 4, 4]


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30])
def test_packing_keeps_four_digits(scale: float) -> None:
    values = np.random.default_rng(0).normal(size=10_000) * scale
    np.testing.assert_allclose(unpack(pack(values)), values, rtol=2**-16)


def test_packing_keeps_what_is_special() -> None:
    largest = float(np.finfo(np.float32).max)
    kept = np.array([0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(unpack(pack(kept)), kept)
    ends = unpack(pack(np.array([largest, -largest])))
    assert np.isfinite(ends).all()
    np.testing.assert_allclose(ends, [largest, -largest], rtol=2**-15)
    np.testing.assert_array_equal(unpack(pack(np.array([1e300, 1e-300]))), [np.inf, 0])
    assert unpack(pack(np.zeros(0))).size == 0


def allowed(page: Page) -> Iterator[str]:
    (policy,) = (a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    yield from str(policy).split("; ")


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.mark.parametrize("make", [some_profile, hostile_profile])
def test_the_page_needs_nothing_and_runs_nothing_else(make: Callable[[], Profile]) -> None:
    html = render(make())
    page = Page(html)
    run = [text for attrs, text in page.scripts if "type" not in attrs]
    assert list(allowed(page)) == [
        "default-src 'none'",
        "script-src " + " ".join(map(hash_of, run)),
        f"style-src {hash_of(page.styles[0])}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    for tag, attributes in page.elements:
        assert tag not in ("img", "iframe", "object", "embed", "form", "base", "video", "audio")
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith(("#", "data:,"))
    assert "Copyright (c) 2022 Leon Sorokin" in run[0]
    assert "url(" not in page.styles[0]
    assert "@import" not in page.styles[0]


def test_hostile_names_are_text() -> None:
    html = render(hostile_profile())
    page = Page(html)
    plain = Page(render(profile_of({"a": layer_of(torch.randn(40, 3))})))
    assert len(page.scripts) == len(plain.scripts)
    assert len(page.styles) == len(plain.styles) == 1
    # More of the same elements, and none of another kind than a harmless page with lists has.
    assert {tag for tag, _ in page.elements} - {tag for tag, _ in plain.elements} <= {"ul", "li"}
    assert page.text.count(MARKUP) >= 4  # title, model, layer, metadata
    assert page.data["layers"]["name"] == [make_readable(name) for name in HOSTILE]
    raw = next(text for attrs, text in page.scripts if attrs.get("id") == "data")
    assert not set(raw) & set("<>&")
    assert "\u202e" not in html
    assert r"\u202egnp.exe\u2066" in page.text
    assert r"a\x00b\nc\ud800" in page.text
    assert len(html.encode()) < 300_000  # the name of 10,000 characters is cut off


def test_readable_text() -> None:
    assert (
        make_readable("layer4.1 conv\N{MULTIPLICATION SIGN}\u5c42") == "layer4.1 conv\u00d7\u5c42"
    )
    assert make_readable("a\u200fb\x1b[31m\ud800") == r"a\u200fb\x1b[31m\ud800"
    cut = make_readable("x" * (MOST_SHOWN + 1500))
    assert cut == "x" * MOST_SHOWN + "... (1,500 more characters)"


def test_hard_profiles_render() -> None:
    page = Page(render(broken_profile()))
    layers = page.data["layers"]
    rows = dict(zip(layers["name"], layers["mean"], strict=True))
    assert rows["nan"] is None
    assert rows["unseen"] is None
    assert rows["zeros"] == 0
    assert np.isnan(page.packed["mean"][8:12]).all()  # of "nan"
    assert layers["channels"][-1] == 0


def test_an_empty_profile() -> None:
    html = render(Profile({}, {}))
    text = shown(html)
    assert "No layer was measured" in text
    assert "an unknown model" in text
    assert "The profile says nothing of how it was made." in text
    assert not any(values.size for values in Page(html).packed.values())


def test_a_profile_of_track_alone(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 3, 8, 8))
    tracker.stats().save(tmp_path / "t.fmstats")
    text = shown(render(fmstats.load(tmp_path / "t.fmstats")))
    assert "Sequential" in text
    assert "samples" not in text.split("Findings")[1].split("elements")[0]


def test_merged_profiles() -> None:
    merged = some_profile(0, data="monday") | some_profile(1, data="tuesday")
    assert "merged from 2 profiles: monday, tuesday" in shown(render(merged))


@pytest.fixture
def shards() -> list[Profile]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).eval()
    images = [factor * torch.randn(30, 3, 8, 8) for factor in (3, 1, 1, 1)]
    return [fmstats.profile(net, [batch], progress=False) for batch in images]


def test_drift(shards: list[Profile]) -> None:
    now, *baseline = shards
    found = now.compare(baseline[0].merge(*baseline[1:]), calibration=baseline)
    html = render(now, found)
    text = shown(html)
    assert found.drift
    assert f"Drift: score {found.score:.4g}, drift if score >= 1.5" in text
    assert "30 samples against 90, 3 layers" in text
    (table,) = re.findall(r'aria-label="Layers that moved most">(.*?)</table>', html, re.DOTALL)
    assert re.findall(r"<bdi>(.*?)</bdi>", table) == [r["layer"] for r in found.top_layers()]
    page = Page(html)
    assert page.data["threshold"] == 1.5
    scores = {layer.layer: layer.score for layer in found.layers}
    assert page.data["layers"]["score"] == [scores[name] for name in now]
    shifts = np.concatenate([layer.effects.shift for layer in found.layers])
    np.testing.assert_allclose(page.packed["shift"], shifts, rtol=2**-16)


def test_what_happened_to_channels_has_a_column_if_anything_did(shards: list[Profile]) -> None:
    now, old = shards[1:3]
    assert ">now</th>" not in render(now, now.compare(old))
    torch.manual_seed(0)
    silent = torch.randn(400, 5)
    silent[:, 2] = 0
    before, after = (profile_of({"relu": layer_of(x)}, samples=400) for x in (silent + 1, silent))
    html = render(after, after.compare(before))
    (table,) = re.findall(r'aria-label="Channels that moved most">(.*?)</table>', html, re.DOTALL)
    assert ">now</th>" in table
    assert table.count("<td>dead</td>") == 1


def test_the_share_of_zeros_has_one_name(shards: list[Profile]) -> None:
    html = render(shards[0], shards[0].compare(shards[1]))
    assert html.count('<th scope="col">sparsity</th>') == 2
    assert 'data-label="sparsity"' in html
    assert not re.search(r'>zeros<|[": ]zeros"', html)


def test_layers_that_were_not_compared(shards: list[Profile]) -> None:
    now, old = shards[:2]
    short = Profile({name: old.info[name] for name in list(old)[:2]}, old.metadata)
    html = render(now, now.compare(short, missing="drop"))
    assert shown(html).lower().count("not compared: 1 layer ") == 2
    assert np.isnan(Page(html).packed["shift"][12:]).all()


def test_no_verdict_is_shown_as_none(shards: list[Profile]) -> None:
    now, old = shards[:2]
    bare = Profile(old.info, {})
    text = shown(render(now, now.compare(bare)))
    assert "Not enough data" in text
    assert "a profile has no 'samples' in its metadata" in text


def test_a_comparison_of_another_profile_is_refused(shards: list[Profile]) -> None:
    now, old = shards[:2]
    with pytest.raises(FmstatsError, match=r"has a layer '0' that the profile has not"):
        render(some_profile(), now.compare(old))
    wide, narrow = (nn.Conv2d(3, channels, 3) for channels in (5, 3))
    images = torch.randn(30, 3, 8, 8)
    wide, narrow = (fmstats.profile(net, [images], progress=False) for net in (wide, narrow))
    message = (
        r"compares 3 channels of layer '\(model\)', of which the profile has 5: give "
        r"profile.compare\(baseline\) of this profile"
    )
    with pytest.raises(FmstatsError, match=message):
        render(wide, narrow.compare(narrow))


def test_groups_wait_in_templates() -> None:
    profile = grouped_profile()
    html = render(profile)
    shown, *waiting = html.split("<template ")
    assert [part.split('"')[1] for part in waiting] == ["group-0", "group-1"]
    plain = render(Profile(profile.info, profile.metadata))
    assert 'id="group"' not in plain
    for part, group in zip([shown, *waiting], [None, *profile.groups], strict=True):
        assert part.count("<option") - plain.count("<option") == 3
        (choice,) = re.findall(r'<select id="group".*?</select>', part, re.DOTALL)
        texts = [escaped.strip() for escaped in re.findall(r">([^<]*)</option>", choice)]
        assert [*map(unescape, texts)] == ["all", *profile.groups]
        chosen = re.findall(r"selected>([^<]*)<", choice)
        assert [*map(unescape, chosen)] == ([] if group is None else [group])
        of = profile if group is None else profile.groups[group]
        for row in of.layers():
            assert f'data-label="mean">{format_number(row["mean"])}</td>' in part
        findings = of.diagnose().findings
        assert ('id="rule-warning-never-active"' in part) == (group == "cat")
        assert any(f.rule == "never-active" for f in findings) == (group == "cat")
    assert "<dt>group</dt><dd><bdi>cat</bdi></dd>" in waiting[0]
    assert "2 groups: cat (3,600 elements), " in shown
    assert MARKUP not in html


def test_drift_is_of_all_groups_together() -> None:
    now, old = grouped_profile(), grouped_profile()
    shown, *waiting = render(now, now.compare(old)).split("<template ")
    assert 'id="drift"' in shown
    assert not any('id="drift"' in part for part in waiting)


def test_a_page_without_groups_has_no_place_for_them(faulty: Profile) -> None:
    html = render(faulty)
    assert "<template" not in html
    assert 'id="profile"' not in html


def test_a_large_page_is_light() -> None:
    now, old = large_profile(), large_profile(seed=1)
    html = render(now, now.compare(old))
    assert sum(stats.channels for stats in now.values()) == 200_000
    assert len(html.encode()) < MOST_BYTES
    # Rows of layers and findings; none of channels.
    assert len(Page(html).elements) < 40_000


def test_files(faulty: Profile, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("old")
    write_report(faulty, str(path))
    assert path.read_text(encoding="utf-8") == render(faulty)
    assert [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(FmstatsError, match=r"a report ends in \.html or \.htm"):
        write_report(faulty, tmp_path / "r.pdf")
    with pytest.raises(FmstatsError, match="there is no folder"):
        write_report(faulty, tmp_path / "none" / "r.html")


def test_a_profile_writes_its_report(shards: list[Profile], tmp_path: Path) -> None:
    now, old = shards[:2]
    now.report(tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == render(now)
    found = now.compare(old)
    now.report(str(tmp_path / "r.html"), found)
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == render(now, found)
    with pytest.raises(FmstatsError, match=r"a report ends in \.html or \.htm"):
        now.report(tmp_path / "r.pdf")


def test_the_same_profile_gives_the_same_page(faulty: Profile) -> None:
    assert render(faulty) == render(faulty)


def test_without_jinja2(faulty: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(FmstatsError, match=r"needs jinja2: pip install 'fmstats\[report\]'"):
        render(faulty)


def test_assets_are_what_their_readme_says() -> None:
    readme = (ASSETS / "README.md").read_text()
    for name, digest in re.findall(r"\| `(uPlot[^`]+)` \| ([0-9a-f]{64}) \|", readme):
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest
    assert "uPlot (v1.6.32)" in (ASSETS / "uPlot.iife.min.js").read_text()
    assert "MIT License" in (ASSETS / "uPlot.LICENSE").read_text()
    own = {path.name for path in ASSETS.glob("*.js")} - {"uPlot.iife.min.js"}
    assert own == set(_SCRIPTS)
    assert not [name for name in own if f"`{name}`" not in readme]


def test_scripts_make_no_markup_of_text() -> None:
    for name in _SCRIPTS:
        script = (ASSETS / name).read_text()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval", script)


# The command.


@pytest.fixture
def run(command_line: Run, shards: list[Profile], tmp_path: Path, monkeypatch) -> Run:
    pytest.importorskip("typer", reason="needs typer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for profile, name in zip(shards, ("now", "a", "b", "c"), strict=True):
        profile.save(f"{name}.fmstats")
    return command_line


def test_command(run: Run) -> None:
    code, out, err = run("report", "now.fmstats", "-o", "r.html")
    assert (code, err) == (0, "")
    assert out == f"Written to r.html: {Path('r.html').stat().st_size / 1e6:.1f} MB\n"
    page = Path("r.html").read_text(encoding="utf-8")
    assert page == render(fmstats.load("now.fmstats"))


SHARDS = ("a.fmstats", "b.fmstats", "c.fmstats")


@pytest.mark.parametrize(
    "arguments",
    [
        ("now.fmstats", "--baseline", *SHARDS, "-o", "r.html"),
        ("--baseline", *SHARDS, "-o", "r.html", "now.fmstats"),
        ("now.fmstats", *[word for f in SHARDS for word in ("--baseline", f)], "--out", "r.html"),
        ("now.fmstats", f"--baseline={SHARDS[0]}", *SHARDS[1:], "-o", "r.html"),
        ("now.fmstats", "--baseline", SHARDS[0], f"--baseline={SHARDS[1]}", SHARDS[2], "-or.html"),
    ],
)
def test_baseline_is_read_as_shards(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("report", *arguments)[0] == 0
    text = shown(Path("r.html").read_text(encoding="utf-8"))
    assert "measured on 3 shards of the baseline" in text
    assert "drift if score >= 1.5" in text


def test_options_of_compare(run: Run) -> None:
    code, *_ = run(
        *("report", "now.fmstats", "--baseline", "a.fmstats", "--threshold", "1000"),
        *("--missing", "drop", "-o", "r.html"),
    )
    assert code == 0
    text = shown(Path("r.html").read_text(encoding="utf-8"))
    assert "No drift: score" in text
    assert "drift if score >= 1000" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("now.fmstats", "-o", "r.pdf"), "a report ends in .html"),
        (("now.fmstats", "-o", "none/r.html"), "there is no folder"),
        (("gone.fmstats", "-o", "r.html"), "gone.fmstats"),
        (("now.fmstats", "--baseline", "gone.fmstats", "-o", "r.html"), "gone.fmstats"),
        (("--baseline", "a.fmstats", "now.fmstats", "-o", "r.html"), "Missing argument"),
    ],
)
def test_refusals(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("report", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not Path("r.html").exists()


def test_help_teaches_by_example(run: Run) -> None:
    code, out, err = run("report", "--help")
    assert (code, err) == (0, "")
    assert "Examples:\n    fmstats report run.fmstats -o report.html" in out
    assert "  report " in run("--help")[1]

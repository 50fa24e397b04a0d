"""What a scrape gives: the numbers of the profile, few of them, and one read however many ask."""

from __future__ import annotations

import math
import threading
import urllib.request

import numpy as np
import pytest
import torch
from torch import nn

import fmstats

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, Gauge, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from fmstats.integrations.prometheus import ProfileCollector
from fmstats.integrations.readings import Readings, gather

HOSTILE = 'a"b\\c\nd{e="f"} # 1\x00é\ud800'


def network(names=("first", "relu")):
    model = nn.Module()
    model.add_module(names[0], nn.Conv2d(1, 6, 3))
    model.add_module(names[1], nn.ReLU6())
    model.forward = lambda x: getattr(model, names[1])(getattr(model, names[0])(x))
    return model


@pytest.fixture
def tracker():
    model = network()
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 1, 8, 8))
        x = torch.randn(1, 1, 8, 8)
        x[0, 0, 0, 0] = float("nan")
        x[0, 0, 7, 7] = float("inf")
        model(x)
        yield tracker


def scrape(collector):
    """All samples by name and labels, as a Prometheus server reads them."""
    registry = CollectorRegistry()
    registry.register(collector)
    return parsed(generate_latest(registry).decode())


def parsed(text):
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = (sample.labels.get(name) for name in ("model", "layer", "channel"))
            key = (sample.name, *(label for label in labels if label is not None))
            assert key not in samples
            samples[key] = sample.value
    return samples


def test_numbers_are_those_of_the_profile(tracker):
    found = scrape(ProfileCollector(tracker))
    rows = {row["layer"]: row for row in tracker.stats().layers()}
    for layer, row in rows.items():
        for name, stat in {
            "mean": "mean",
            "std": "std",
            "min": "min",
            "max": "max",
            "sparsity_ratio": "sparsity",
            "channels": "channels",
            "dead_channels": "dead",
            "elements_total": "count",
            "nan_elements_total": "nan",
            "infinite_elements_total": "inf",
        }.items():
            assert found[f"fmstats_layer_{name}", "Module", layer] == row[stat]
    assert rows["first"]["nan"] > 0
    assert ("fmstats_layer_saturated_ratio", "Module", "first") not in found
    assert found["fmstats_layer_saturated_ratio", "Module", "relu"] == rows["relu"]["saturated"]
    assert found["fmstats_omitted_series",] == found["fmstats_read_errors_total",] == 0


def test_over_http_with_hostile_names():
    model = network((HOSTILE, "relu"))
    registry = CollectorRegistry(auto_describe=True)
    with fmstats.track(model) as tracker:
        registry.register(ProfileCollector(tracker, top_channels=2))
        model(torch.randn(1, 1, 8, 8))
        server, thread = start_http_server(0, "127.0.0.1", registry)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
        server.shutdown()
        server.server_close()
        thread.join()
    found = parsed(text)
    name = HOSTILE.replace("\ud800", "?")
    assert found["fmstats_layer_elements_total", "Module", name] == 6 * 36
    assert "# TYPE fmstats_layer_elements_total counter" in text
    assert "# TYPE fmstats_layer_mean gauge" in text


def test_the_first_channels_of_the_whole_model(tracker):
    found = scrape(ProfileCollector(tracker, stats=(), top_channels=3, top_by="abs_max"))
    profile = tracker.stats()
    every = {
        (layer, str(i)): value
        for layer in profile
        for i, value in enumerate(profile[layer].abs_max)
    }
    largest = sorted(every.values(), reverse=True)[:3]
    got = {key[2:]: v for key, v in found.items() if key[0] == "fmstats_channel_abs_max"}
    assert sorted(got.values(), reverse=True) == largest
    assert all(every[key] == value for key, value in got.items())


def test_series_never_exceed_the_limit(tracker):
    for most in range(14):
        collector = ProfileCollector(
            tracker, stats=("mean", "saturated", "count"), top_channels=4, max_series=most
        )
        found = scrape(collector)
        series = [key for key in found if len(key) > 1]
        assert len(series) <= most
        assert len(series) + found["fmstats_omitted_series",] == 2 + 3 + 4
        layers = {key[2] for key in series if key[0].startswith("fmstats_layer")}
        assert layers == ({"first", "relu"} if most >= 5 else {"first"} if most >= 2 else set())
        channels = [key for key in series if key[0].startswith("fmstats_channel")]
        assert len(channels) == min(max(most - 5, 0), 4)


def test_layers_by_name_or_glob(tracker):
    for layers, want in (("re*", {"relu"}), (["first", "no"], {"first"}), ((), set())):
        found = scrape(ProfileCollector(tracker, layers=layers, stats="mean"))
        assert {key[2] for key in found if len(key) > 1} == want


def test_a_storm_of_scrapes_reads_once(tracker):
    reads, together = [], threading.Barrier(8)
    profile = tracker.stats()

    def source():
        reads.append(threading.get_ident())
        return profile

    collector = ProfileCollector(source, min_interval=3600)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(collector)
    assert not reads  # not even to register it
    texts = []

    def ask():
        together.wait()
        texts.append(generate_latest(registry))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1
    assert len(set(texts)) == 1
    assert len(texts) == 8


def test_numbers_stay_for_an_interval_and_no_longer(tracker):
    def count(collector):
        return scrape(collector)["fmstats_layer_elements_total", "Module", "first"]

    model = network()
    with fmstats.track(model) as tracker:
        kept, fresh = (ProfileCollector(tracker, min_interval=i) for i in (3600, 0))
        model(torch.randn(1, 1, 8, 8))
        assert count(kept) == count(fresh) == 216
        model(torch.randn(1, 1, 8, 8))
        assert (count(kept), count(fresh)) == (216, 432)


def test_scrapes_while_a_model_runs_see_whole_batches():
    model, seen, failed = network(), [], []
    with fmstats.track(model) as tracker:
        collector = ProfileCollector(tracker, min_interval=0)

        def run():
            try:
                for _ in range(200):
                    with torch.no_grad():
                        model(torch.randn(1, 1, 8, 8))
            except Exception as error:
                failed.append(error)

        model(torch.randn(1, 1, 8, 8))
        thread = threading.Thread(target=run)
        thread.start()
        while not seen or thread.is_alive():
            seen.append(scrape(collector)["fmstats_layer_elements_total", "Module", "first"])
        thread.join()
        last = scrape(collector)["fmstats_layer_elements_total", "Module", "first"]
    assert not failed
    assert seen == sorted(seen)
    assert all(count % 216 == 0 for count in seen)
    assert last == 201 * 216


def test_a_profile_is_a_source(tracker):
    found = scrape(ProfileCollector(tracker.stats(), stats="count"))
    assert found["fmstats_layer_elements_total", "Module", "relu"] == 3 * 6 * 36


def test_nothing_seen_yet():
    with fmstats.track(network()) as tracker:
        found = scrape(ProfileCollector(tracker, top_channels=3))
    assert {key for key in found if len(key) > 1} == set()
    assert found["fmstats_last_read_timestamp_seconds",] > 0


def test_a_source_that_fails_spoils_no_scrape(tracker, caplog):
    answers = [tracker.stats(), RuntimeError("device lost"), RuntimeError("device lost")]

    def source():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    collector = ProfileCollector(source, min_interval=0)
    first, second, third = (scrape(collector) for _ in range(3))
    assert ("fmstats_layer_mean", "Module", "first") in first
    assert not any(len(key) > 1 for key in second)  # no numbers rather than old ones
    assert third["fmstats_read_errors_total",] == 2
    last = "fmstats_last_read_timestamp_seconds"
    assert second[last,] == first[last,]
    assert "device lost" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stats": ["average"]}, "unknown statistic 'average' of a layer: choose mean, "),
        ({"top_by": "count"}, "unknown statistic 'count' of a channel: choose mean, "),
        ({"max_series": -1}, "max_series=-1: give a finite number, 0 or more"),
        ({"min_interval": float("nan")}, "min_interval=nan: give a finite number"),
    ],
)
def test_what_is_refused(tracker, options, message):
    with pytest.raises(fmstats.FmstatsError, match=message):
        ProfileCollector(tracker, **options)


def test_a_source_of_no_known_kind():
    with pytest.raises(fmstats.FmstatsError, match="source is of type ndarray: give a Tracker"):
        ProfileCollector(np.zeros(3))


def test_two_models_in_one_registry(tracker):
    class Other(nn.Sequential):
        pass

    models = [Other(nn.Identity()), Other(nn.Identity())]
    registry = CollectorRegistry()
    with fmstats.track(models[0]) as one, fmstats.track(models[1]) as two:
        for number, model in enumerate(models):
            model(torch.full((3, 2), float(number)))
        first = ProfileCollector(tracker)
        registry.register(first)
        registry.register(ProfileCollector(one, max_series=3))
        registry.register(ProfileCollector(two))
        registry.register(ProfileCollector(two, model="a name", stats=("mean_spread", "mean")))
        text = generate_latest(registry).decode()
        found = parsed(text)
        alone = scrape(ProfileCollector(tracker))
        key = ("fmstats_layer_mean", "Module", "first")
        assert text.count("# HELP fmstats_layer_mean ") == 1
        assert found[key] == alone[key]
        assert found["fmstats_layer_mean", "Other", "0"] == 1.0  # the other one has no room
        assert found["fmstats_layer_mean", "a name", "0"] == 1.0
        assert found["fmstats_layer_mean_spread", "a name", "0"] == 0.0
        assert found["fmstats_omitted_series",] == 10
        registry.unregister(first)
        found = parsed(generate_latest(registry).decode())
        assert key not in found
        assert found["fmstats_layer_mean", "a name", "0"] == 1.0


def test_models_of_one_class_are_numbered():
    models = [nn.Sequential(nn.Identity()) for _ in range(3)]
    registry = CollectorRegistry()
    for number, model in enumerate(models):
        with fmstats.track(model) as tracker:
            model(torch.full((3, 2), float(number)))
            registry.register(ProfileCollector(tracker.stats()))
    found = parsed(generate_latest(registry).decode())
    for number, name in enumerate(("Sequential", "Sequential#2", "Sequential#3")):
        assert found["fmstats_layer_mean", name, "0"] == number
    some = registry.restricted_registry(["fmstats_layer_mean"])
    assert len(parsed(generate_latest(some).decode())) == 3


def test_registries_know_nothing_of_each_other(tracker):
    registries = [CollectorRegistry(), CollectorRegistry()]
    for registry in registries:
        registry.register(ProfileCollector(tracker, stats="mean"))
    for registry in registries:
        found = parsed(generate_latest(registry).decode())
        assert {key[1] for key in found if len(key) > 1} == {"Module"}


def test_a_name_of_another_is_still_refused(tracker):
    registry = CollectorRegistry()
    Gauge("fmstats_layer_mean", "taken", registry=registry)
    with pytest.raises(ValueError, match="fmstats_layer_mean"):
        registry.register(ProfileCollector(tracker))


def test_the_time_is_that_of_the_oldest_read(tracker, monkeypatch):
    clock = iter((30.0, 20.0))
    monkeypatch.setattr("fmstats.integrations.readings.time.time", lambda: next(clock))
    assert gather([Readings(tracker), Readings(tracker)]).time == 20.0
    assert gather([]).time is None


@pytest.fixture
def measured():
    torch.manual_seed(0)
    model = network()
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(torch.randn(2, 1, 8, 8))
        yield tracker


def buckets(text):
    """The counts by edge, of each layer."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "fmstats_layer_distribution_bucket":
                edge = float(sample.labels["le"])
                found.setdefault(sample.labels["layer"], {})[edge] = sample.value
    return found


def test_histograms_of_chosen_layers(measured):
    registry = CollectorRegistry()
    registry.register(ProfileCollector(measured, histograms="re*"))
    (found,) = buckets(generate_latest(registry).decode()).values()
    edges = [-65504.0, *(-(4.0**n) for n in range(7, -7, -1)), 0.0]
    edges += [*(4.0**n for n in range(-6, 8)), 65504.0, math.inf]
    assert list(found) == edges
    profile = measured.stats()
    bins = profile["relu"].to_dict()["histograms"][0]
    for edge, count in found.items():
        up_to = sum(n for end, n in zip(bins["to"], bins["count"], strict=True) if end <= edge)
        assert count == up_to
    assert found[0.0] == profile["relu"].zeros.sum()
    assert found[math.inf] == profile["relu"].count.sum()


def test_histograms_are_of_both_signs(measured):
    """At every edge, counted by comparisons."""
    model = nn.Identity()
    powers = 2.0 ** torch.arange(-26, 18).double()
    x = torch.cat([powers * 1.01, -powers, torch.zeros(3)])[:, None]
    with fmstats.track(model, measure="histogram", backend="torch") as tracker:
        model(x)
    registry = CollectorRegistry()
    registry.register(ProfileCollector(tracker, histograms="*"))
    (found,) = buckets(generate_latest(registry).decode()).values()
    assert all(count == (x <= edge).sum() for edge, count in found.items())


def test_no_layer_has_a_histogram_by_default(measured):
    registry = CollectorRegistry()
    registry.register(ProfileCollector(measured))
    assert "fmstats_layer_distribution" not in generate_latest(registry).decode()


def test_histograms_count_as_series_and_go_first(measured):
    registry = CollectorRegistry()
    registry.register(ProfileCollector(measured, stats="mean", histograms="*", max_series=34))
    text = generate_latest(registry).decode()
    assert list(buckets(text)) == ["first"]
    assert parsed_without_buckets(text)["fmstats_omitted_series"] == 32


def parsed_without_buckets(text):
    lines = [line for line in text.splitlines() if "fmstats_layer_distribution" not in line]
    return {key[0]: value for key, value in parsed("\n".join(lines)).items()}


def test_histograms_of_two_models_are_numbered(measured):
    registry = CollectorRegistry()
    for _ in range(2):
        registry.register(ProfileCollector(measured, histograms="relu"))
    assert 'model="Module#2"' in "".join(
        line
        for line in generate_latest(registry).decode().splitlines()
        if line.startswith("fmstats_layer_distribution_bucket")
    )


def test_a_layer_without_a_histogram_has_none(tracker):
    registry = CollectorRegistry()
    registry.register(ProfileCollector(tracker, histograms="*"))
    assert buckets(generate_latest(registry).decode()) == {}

"""What a reader of the OpenTelemetry SDK collects is what the profile has."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import fmstats

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Gauge, InMemoryMetricReader, Sum

from fmstats.integrations.opentelemetry import observe


@pytest.fixture
def tracker():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU6())
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 1, 6, 6))
        yield tracker


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    provider = MeterProvider([reader])
    yield provider.get_meter("test")
    provider.shutdown()


def collected(reader):
    return {
        metric.name: metric
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def numbers_of(metric):
    return {
        tuple(point.attributes[key] for key in ("layer", "channel") if key in point.attributes): (
            point.value
        )
        for point in metric.data.data_points
    }


def test_numbers_units_and_kinds(tracker, meter, reader):
    observe(tracker, meter)
    found = collected(reader)
    rows = tracker.stats().layers()
    for stat in ("mean", "std", "min", "max", "sparsity", "channels", "dead", "count", "nan"):
        assert numbers_of(found[f"fmstats.layer.{stat}"]) == {
            (row["layer"],): row[stat] for row in rows
        }
    assert numbers_of(found["fmstats.layer.saturated"]) == {("1",): rows[1]["saturated"]}
    assert isinstance(found["fmstats.layer.mean"].data, Gauge)
    assert isinstance(found["fmstats.layer.count"].data, Sum)
    assert found["fmstats.layer.count"].data.is_monotonic
    units = {stat: found[f"fmstats.layer.{stat}"].unit for stat in ("sparsity", "dead", "count")}
    assert units == {"sparsity": "1", "dead": "{channel}", "count": "{element}"}
    point = found["fmstats.layer.mean"].data.data_points[0]
    assert dict(point.attributes) == {"model": "Sequential", "layer": "0"}


def test_channels_and_the_limit(tracker, meter, reader):
    observe(tracker, meter, stats="mean", top_channels=3, top_by="std", max_series=4)
    found = collected(reader)
    profile = tracker.stats()
    channels = numbers_of(found["fmstats.channel.std"])
    every = {(n, str(i)): v for n in profile for i, v in enumerate(profile[n].std)}
    assert channels.items() <= every.items()
    assert sorted(channels.values()) == sorted(every.values())[-2:]
    assert numbers_of(found["fmstats.omitted_series"]) == {(): 1}


def test_all_instruments_read_once(tracker, meter, reader):
    reads = []

    def source():
        reads.append(1)
        return tracker.stats()

    observe(source, meter, min_interval=3600)
    assert len(collected(reader)) > 10
    collected(reader)
    assert len(reads) == 1


def test_a_source_that_fails(meter, reader, caplog):
    def source():
        raise RuntimeError("device lost")

    observe(source, meter)
    found = collected(reader)
    assert numbers_of(found["fmstats.read_errors"]) == {(): 1}
    assert "fmstats.layer.mean" not in found
    assert "device lost" in caplog.text


PROGRAM = """
import sys, torch, fmstats
from torch import nn
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from fmstats.integrations.opentelemetry import observe

reader = InMemoryMetricReader()
for number, when in enumerate(sys.argv[1:]):
    if when == "set":
        metrics.set_meter_provider(MeterProvider([reader]))
        continue
    model = nn.Sequential(nn.ReLU())
    tracker = fmstats.track(model)
    model(torch.full((2, 1), float(number)))
    observe(tracker)
for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
    (mean,) = [metric for metric in scope.metrics if metric.name == "fmstats.layer.mean"]
    print(scope.scope.name, scope.scope.version == fmstats.__version__)
    for point in mean.data.data_points:
        print(point.attributes["model"], point.value)
"""


@pytest.mark.parametrize(
    ("steps", "seen"),
    [
        (["set", "observe"], ["Sequential 1.0"]),
        (["observe", "set"], ["Sequential 0.0"]),
        (["observe", "set", "observe"], ["Sequential 0.0", "Sequential#2 2.0"]),
        (["observe", "observe", "set"], ["Sequential 0.0", "Sequential#2 1.0"]),
    ],
)
def test_the_global_provider_is_the_usual_one(steps, seen):
    """Whenever it is set, which a process can do once."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *steps], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["fmstats True", *seen]


def by_model(metric):
    return {
        (point.attributes["model"], point.attributes["layer"]): point.value
        for point in metric.data.data_points
    }


def test_two_models_are_told_apart(tracker, meter, reader, caplog):
    class Other(nn.Sequential):
        pass

    models = [Other(nn.Identity()), nn.Sequential(nn.Identity())]
    with fmstats.track(models[0]) as one, fmstats.track(models[1]) as two:
        for number, model in enumerate(models):
            model(torch.full((3, 2), float(number)))
        observe(tracker, meter, stats=("count", "mean"))
        observe(one, meter, stats="mean")
        observe(two, meter, stats=("mean", "mean_spread"))
        observe(two, meter, stats="mean", model="a name")
        found = collected(reader)
    own = tracker.stats().layers()
    assert by_model(found["fmstats.layer.mean"]) == {
        **{("Sequential", row["layer"]): row["mean"] for row in own},
        **{("Other", "0"): 0.0, ("Sequential#2", "0"): 1.0, ("a name", "0"): 1.0},
    }
    assert by_model(found["fmstats.layer.mean_spread"]) == {("Sequential#2", "0"): 0.0}
    counted = {("Sequential", row["layer"]): row["count"] for row in own}
    assert by_model(found["fmstats.layer.count"]) == counted
    assert numbers_of(found["fmstats.omitted_series"]) == {(): 0}
    assert caplog.text == ""


def test_two_meters_know_nothing_of_each_other(tracker):
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    providers = [MeterProvider([reader]) for reader in readers]
    for provider in providers:
        observe(tracker, provider.get_meter("same"), stats="mean")
    for reader in readers:
        assert {name for name, _ in by_model(collected(reader)["fmstats.layer.mean"])} == {
            "Sequential"
        }
    for provider in providers:
        provider.shutdown()


def test_what_is_refused(tracker, meter):
    with pytest.raises(fmstats.FmstatsError, match="unknown statistic 'average'"):
        observe(tracker, meter, stats="average")

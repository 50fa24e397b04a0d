"""What a reader of the OpenTelemetry SDK collects is what the profile has."""

from __future__ import annotations

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


def test_the_global_provider_is_the_usual_one(tracker):
    observe(tracker)  # no provider was set: its instruments ask nobody


def test_what_is_refused(tracker, meter):
    with pytest.raises(fmstats.FmstatsError, match="unknown statistic 'average'"):
        observe(tracker, meter, stats="average")

"""docs/integrations.md: it lists the metrics that there are."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fmstats
from fmstats.integrations.metrics import CHANNEL_METRICS, LAYER_METRICS, RUN_METRICS

PAGE = Path(__file__).parent.parent / "docs" / "integrations.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.M))


def test_metrics_are_listed_and_no_others():
    text = SECTIONS["Prometheus"]
    metrics = (*LAYER_METRICS, *CHANNEL_METRICS)
    names = {f"fmstats_{m.of}_{m.name}" + ("_total" if m.counts_up else "") for m in metrics}
    names |= {"fmstats_omitted_series", "fmstats_read_errors_total"}
    names |= {"fmstats_last_read_timestamp_seconds"}
    names |= {"fmstats_layer_distribution", "fmstats_layer_distribution_bucket"}
    assert set(re.findall(r"fmstats_\w+", text)) == names
    others = {f"fmstats.{m.of}.{m.stat}" for m in metrics}
    others |= {"fmstats.omitted_series", "fmstats.read_errors"}
    assert set(re.findall(r"`(fmstats\.\w+[.\w]*)`", text)) == others


def test_importing_the_integrations_imports_no_framework():
    code = (
        "import sys, torch; before = set(sys.modules);"
        "import fmstats, fmstats.integrations, fmstats.integrations.intervals;"
        "import fmstats.integrations.readings, fmstats.integrations.tensorboard;"
        "new = {name.split('.')[0] for name in set(sys.modules) - before};"
        "print(new & {'lightning', 'pytorch_lightning', 'transformers', 'tensorboard', 'ray',"
        " 'prometheus_client', 'opentelemetry', 'wandb', 'mlflow'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("packages", "module"),
    [
        (["lightning", "pytorch_lightning"], "lightning"),
        (["transformers"], "transformers"),
        (["prometheus_client"], "prometheus"),
        (["opentelemetry"], "opentelemetry"),
    ],
)
def test_without_its_package(monkeypatch, packages, module):
    loaded = [name for name in sys.modules if name.split(".")[0] in packages]
    for name in (*loaded, *packages):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"fmstats.integrations.{module}", raising=False)
    with pytest.raises(fmstats.FmstatsError, match=rf"pip install 'fmstats\[{module}\]'"):
        importlib.import_module(f"fmstats.integrations.{module}")


def test_the_page_of_the_nightly_check_lists_what_it_writes():
    page = PAGE.with_name("nightly.md").read_text()
    for metric in RUN_METRICS:
        label = f"`{metric.label}`" if metric.label else ""
        assert f"| `{metric.name}` | {label} | {metric.help} |" in page, metric.name

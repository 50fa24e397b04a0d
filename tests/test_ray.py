"""A run on a local Ray gives the profile of one process, also when a worker is lost."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tolerances import ROUNDING, assert_equal_states
from torch import nn

import fmstats
from fmstats.errors import FmstatsError

HERE = Path(__file__).parent
HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs ray: pip install 'fmstats[ray]'")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of the profiles, and the errors printed."""
    folder = tmp_path_factory.mktemp("ray")
    paths = [str(Path(fmstats.__file__).parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, str(HERE / "ray_worker.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder, done.stdout


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize("name", ["run", "died"])
def test_the_profile_is_that_of_one_process(ran, name):
    folder, _ = ran
    got, want = (fmstats.load(folder / f"{n}.fmstats") for n in (name, "want"))
    assert (folder / "died").exists()
    assert list(got) == (["0", "1", "2"] if name == "run" else ["1", "2"])
    for layer in got:
        assert_equal_states(got[layer].state, want[layer].state, ROUNDING)
        assert got.info[layer].calls == want.info[layer].calls == 12
    assert (got.metadata["samples"], got.metadata["batches"]) == (60, 12)
    assert got.metadata["profiles"] == 6


@pytest.mark.long
@needs_ray
@pytest.mark.parametrize(
    "message",
    [
        "which column is the input? The dataset has 'x', 'label'; none was named",
        "which column is the input? The dataset has 'x', 'label'; 'y' was asked for",
        "a worker refused its block: the model refused batch 1, (5, 5) float32",
        "limit= is not for Ray",
    ],
)
def test_errors_come_back(ran, message):
    assert message in ran[1]


def test_without_ray(monkeypatch):
    from fmstats.integrations.ray import profile

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FmstatsError, match=r"needs Ray: pip install 'fmstats\[ray\]'"):
        profile(nn.ReLU(), [1])

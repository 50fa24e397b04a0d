"""Several processes share a run: together they have the profile of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tolerances import ACCURACY, assert_equal_states
from torch import nn

import fmstats
from fmstats import storage
from fmstats.errors import FmstatsError
from fmstats.runs import profile
from fmstats.runs.reading import Share

if not dist.is_available() or not dist.is_gloo_available():
    pytest.skip("needs torch.distributed with gloo", allow_module_level=True)

import shard_worker

HERE = Path(__file__).parent
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def launch(processes: int, *command: object, folder: Path) -> tuple[int, str, str]:
    """Run a command in so many processes by torchrun: exit code, stdout, stderr."""
    paths = [str(Path(fmstats.__file__).parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    start = [*LAUNCH, str(processes)] if processes > 1 else [sys.executable]
    with subprocess.Popen(
        [*start, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            output, errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            pytest.fail(f"the ranks hang: {output}{errors}")
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What 1, 2 and 4 processes have written down."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = tmp_path_factory.mktemp("shards")
    np.save(folder / "x.npy", shard_worker.data().numpy())
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 14, 3), dtype=np.uint8)
    for number, picture in enumerate(pixels):
        pillow.fromarray(picture).save(folder / "images" / f"{number}.png")
    for number in (2, 3, 7):
        (folder / "images" / f"{number}.png").write_bytes(b"broken")
    for processes in (1, 2, 4):
        code, output, errors = launch(
            processes, HERE / "shard_worker.py", folder, "run", folder=folder
        )
        assert code == 0, output + errors
    return folder


RUNS = {
    "stored": (23, 6),
    "stored, limited": (9, 3),
    "stream": (23, 7),
    "stream, limited": (10, 4),
    "float32": (23, 6),
    "one batch": (23, 1),
    "images": (6, 4),
    "checkpoint": (23, 6),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_give_the_profile_of_one(folder, name, processes):
    want = storage.load(folder / f"{name}, 0 of 1.fmstats")
    assert (want.metadata["samples"], want.metadata["batches"]) == RUNS[name]
    accuracy = ACCURACY[torch.float32 if name == "float32" else torch.float64]
    for rank in range(processes):
        got = storage.load(folder / f"{name}, {rank} of {processes}.fmstats")
        assert list(got) == list(want)
        for layer in want:
            assert_equal_states(got[layer].state, want[layer].state, accuracy)
            assert got.info[layer].calls == want.info[layer].calls
        for key in ("samples", "batches", "passes", "coverage", "skipped_count", "backends"):
            assert got.metadata[key] == want.metadata[key], key
        assert sorted(got.metadata["skipped"]) == sorted(want.metadata["skipped"])
        assert got.metadata["processes"] == processes
        assert "profiles" not in got.metadata
    if name == "images":
        assert want.metadata["skipped_count"] == 3


def test_each_process_has_its_own_checkpoint(folder):
    parts = [storage.load(folder / f"runworld.rank{rank}of4.fmstats") for rank in range(4)]
    assert [part.metadata["samples"] for part in parts] == [8, 7, 4, 4]
    assert all(part.metadata["checkpoint"]["complete"] for part in parts)
    assert (folder / "runNone.fmstats").exists()


@pytest.mark.parametrize("task", ["fails", "dies"])
def test_a_rank_that_fails_does_not_hang_the_others(folder, task):
    began = time.monotonic()
    code, _, errors = launch(2, HERE / "shard_worker.py", folder, task, folder=folder)
    assert code != 0
    assert time.monotonic() - began < 60
    if task == "fails":
        assert "the model refused batch 2" in errors
        assert "this rank is ill" in errors


def test_the_command_line_under_torchrun(folder):
    pytest.importorskip("typer", reason="needs typer")
    command = ["-m", "fmstats", "profile", HERE / "shard_worker.py:net", "--data", "x.npy"]
    command += ["--batch-size", "4", "--out", "p.fmstats.json", "--checkpoint", "cli.fmstats"]
    code, output, errors = launch(2, *command, folder=folder)
    assert code == 0, errors
    assert output.count("samples: 23, batches: 6") == 1  # Rank 0 speaks, alone.
    assert (folder / "p.fmstats.json").exists()
    assert (folder / "cli.rank1of2.fmstats").exists()


def test_a_check_under_torchrun_is_written_once(folder):
    pytest.importorskip("typer", reason="needs typer")
    command = ["-m", "fmstats", "check", HERE / "shard_worker.py:net", "--data", "x.npy"]
    command += ["--batch-size", "4", "--out", "c.fmstats.json", "--fail-on", "samples>0"]
    code, output, errors = launch(2, *command, folder=folder)
    assert code == 1
    assert output.count("FAILED: 1 of 1 condition holds") == 1, errors  # Rank 0 alone speaks.
    assert output.count("23 samples, ") == 1
    assert (folder / "c.fmstats.json").exists()


def test_shares_are_all_batches_once():
    for ranks in (1, 2, 3, 5):
        for first in range(12):
            numbers = [list(Share(r, ranks, first).numbers(11)) for r in range(ranks)]
            assert sorted(n for mine in numbers for n in mine) == list(range(first, 11))
            for rank, mine in enumerate(numbers):
                assert all(Share(rank, ranks, first).has(n) for n in mine)
                assert all(n % ranks == rank for n in mine)


def test_without_a_process_group():
    with pytest.raises(FmstatsError, match=r"^profile\(group=...\) needs torch.distributed to be"):
        profile(nn.ReLU(), torch.zeros(3, 2), group="world")


def test_ranks_that_cannot_be_joined(monkeypatch):
    from fmstats.runs.shards import join_launched

    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(FmstatsError, match=r"WORLD_SIZE is 2, but the other processes cannot be"),
        join_launched(None),
    ):
        pass

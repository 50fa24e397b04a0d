"""What histograms take is said before it is taken."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from profile_files import layer_of, profile_of
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.statistic import room
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.statistic.state import State
from fmstats.tracking.state_memory import StateMemory

CPU = torch.device("cpu")
EACH_CHANNEL = Measures.of("histogram", Bins("channel", 4))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes that are free on any device."""
    found = [10**9]
    monkeypatch.setattr(room, "find_free", lambda device: found[0])
    return found


def test_it_warns_before_the_bytes_of_all_layers_are_notable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And once, with what takes less."""
    memory, made = StateMemory(), []
    monkeypatch.setattr(State, "identity", lambda *a, **k: made.append(a))
    per_channel = EACH_CHANNEL.bins.bytes  # type: ignore[union-attr]
    most = room.NOTABLE // per_channel
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memory.make(most - 10, CPU, EACH_CHANNEL)
        memory.make(10, CPU, EACH_CHANNEL)
        memory.make(10**9, CPU, Measures.of(("abs", "kurtosis")))
    assert len(made) == 3
    text = (
        r"^histograms take 64 MB of memory so far, and more with each further channel: 6,231 of "
        r"10\.3 kB \(resolution=4\); histogram='layer' takes 10\.3 kB a layer, resolution=2 takes "
        r"2\.59 kB a channel, include= and exclude= choose layers$"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match=text):
            memory.make(1, CPU, EACH_CHANNEL)
        assert len(made) == 3  # not taken yet
        memory.make(1, CPU, EACH_CHANNEL)


def test_what_the_free_memory_does_not_hold_is_refused(free: list[int]) -> None:
    bins = Bins("channel", 6)
    check = room.check_room
    most = free[0] // 2 // bins.bytes
    check(bins, most, CPU)
    with pytest.raises(
        FmstatsError,
        match=r"^12,198 histograms would take 500 MB \(resolution=6, 41 kB each\), more than half "
        r"of the 1 GB that are free on cpu: histogram='layer' takes 41 kB a layer, resolution=4 ",
    ):
        check(bins, most + 1, CPU)
    free[0] = 0
    check(bins, room.NOTABLE // bins.bytes, CPU)  # as small as other things


@pytest.mark.parametrize(
    ("bins", "text"),
    [
        (Bins("layer", 1), r"^resolution=0 takes 672 B a layer, include= and exclude= "),
        (Bins("layer", 0), r"^include= and exclude= choose layers"),
        (Bins("channel", 0), r"^histogram='layer' takes 672 B a layer, include="),
    ],
)
def test_what_is_suggested_takes_less(bins: Bins, text: str) -> None:

    assert re.search(text, room.suggest_smaller(bins))


def test_the_free_memory_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   2048 kB\nBuffers: 1 kB\n")
    monkeypatch.setattr(room, "_MEMINFO", tmp_path / "meminfo")
    assert room.find_free(CPU) == 2**21
    monkeypatch.setattr(room, "_MEMINFO", tmp_path / "absent")
    assert room.find_free(CPU) is None
    assert room.find_free(torch.device("meta")) is None


def test_the_free_memory_of_a_gpu_is_also_what_torch_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("mem_get_info", (5, 9)), ("memory_reserved", 4), ("memory_allocated", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert room.find_free(torch.device("cuda", 0)) == 8


def test_a_layer_without_room_is_not_measured_and_the_model_runs(free: list[int]) -> None:
    free[0] = 100_000_000
    model = nn.Sequential(nn.Linear(4, 20_000), nn.Linear(20_000, 2))
    asked = {"measure": "histogram", "histogram": "channel", "backend": "torch"}
    with (
        pytest.warns(RuntimeWarning, match="no longer measures layer '0'.*20,000 histograms would"),
        fmstats.track(model, **asked) as tracker,  # type: ignore[arg-type]
    ):
        model(torch.randn(2, 4))
    assert list(tracker.stats()) == ["1"]


def test_layers_share_the_free_memory_of_their_device(
    free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(State, "identity", lambda *a, **k: None)
    monkeypatch.setattr("fmstats.tracking.state_memory.NOTABLE", 10**12)
    memory, half = StateMemory(), free[0] // 2 // Bins().bytes
    memory.make(half - 100, CPU, EACH_CHANNEL)
    memory.make(half - 100, torch.device("meta"), EACH_CHANNEL)
    memory.make(100, CPU, EACH_CHANNEL)
    with pytest.raises(FmstatsError, match=f"^{half + 1:,} histograms would take 500 MB"):
        memory.make(1, CPU, EACH_CHANNEL)
    free[0] *= 2
    memory.make(1, CPU, EACH_CHANNEL)  # what was refused is not counted


def test_groups_have_histograms_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmstats.tracking.state_memory.NOTABLE", 2 * Bins().bytes)
    model, x = nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 5, 4)
    group = torch.tensor([[0, 0, 1, 1, -1]] * 2)
    with (
        pytest.warns(RuntimeWarning, match="histograms take"),
        fmstats.track(
            model, backend="torch", measure="histogram", groups=lambda *_: group
        ) as tracker,
    ):
        model(x)
    assert len(tracker.stats().groups) == 2


def test_a_file_that_takes_more_than_there_is(free: list[int]) -> None:
    """It may be small itself."""
    x = torch.ones(0, 3000)  # of which nothing was seen
    layer = layer_of(x, measures=Measures.of("histogram", Bins("channel", 6)))
    content = profile_of({"a": layer}).to_bytes()
    assert len(content) < 300_000
    free[0] = 200_000_000
    with pytest.raises(
        FmstatsError, match=r"^cannot read a profile from bytes: 3,000 histograms w"
    ):
        fmstats.Profile.from_bytes(content)


def test_a_container_with_a_limit_has_less_memory_than_its_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (meminfo := tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  4000000 kB\n")
    monkeypatch.setattr(room, "_MEMINFO", meminfo)
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    assert room.find_free(CPU) == 4_096_000_000
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("600000000\n")
    assert room.find_free(CPU) == 4_096_000_000
    (tmp_path / "memory.max").write_text("1000000000\n")
    (tmp_path / "memory.stat").write_text("anon 500000000\ninactive_file 100000000\nslab 5\n")
    assert room.find_free(CPU) == 500_000_000  # files give theirs back

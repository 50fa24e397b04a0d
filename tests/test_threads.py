"""One tracked model in several threads and processes: nothing is lost, and nothing is torn."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from compat_models import ResidualBlock, assert_row, captured
from torch import Tensor, nn

import fmstats
from fmstats.backends import BACKENDS
from fmstats.profiles.profile import Profile
from fmstats.statistic.fields import COUNTS, FIELDS
from fmstats.statistic.state import State, merge
from fmstats.tracking import per_call as calls
from fmstats.tracking import rows
from fmstats.tracking.layers import Layer

# The fast way and the slow one; any other is slow as torch is.
NAMES = [b.name for b in BACKENDS if b.why_not() is None and b.name in ("cpu", "torch")]
EXACT = [FIELDS.index(field) for field in (*COUNTS, "min", "max")]
THREADS = 4


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def net() -> nn.Module:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), ResidualBlock(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    )
    return model.eval()


def batches(n: int) -> list[Tensor]:
    return [torch.randn(1 + i % 3, 3, 6, 6) for i in range(n)]


def together(work: list[Callable[[], object]]) -> None:
    """Run these at once, each in a thread of its own that begins when all have."""
    gate = threading.Barrier(len(work))

    def begin(each: Callable[[], object]) -> None:
        gate.wait(10)
        with torch.no_grad():
            each()

    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(begin, each) for each in work]:
            done.result(60)


def run_each(model: Callable[[Tensor], object], shares: list[list[Tensor]]) -> None:
    def one(share: list[Tensor]) -> Callable[[], None]:
        def work() -> None:
            for x in share:
                model(x)

        return work

    together([one(share) for share in shares])


def serial(model: nn.Module, data: list[Tensor], **options: object) -> Profile:
    with torch.no_grad(), fmstats.track(model, **options) as tracker:  # type: ignore[arg-type]
        for x in data:
            model(x)
    return tracker.stats()


def assert_same(got: Profile, want: Profile) -> None:
    """Exact fields alike, calls too; moments as of another order."""
    assert set(got) == set(want)
    for name in want:
        a, b = got[name].state, want[name].state
        assert torch.equal(a.words[EXACT], b.words[EXACT]), name
        assert torch.allclose(a["mean"], b["mean"], rtol=1e-6, atol=1e-6), name
        assert torch.allclose(a["m2"], b["m2"], rtol=2e-6), name
        assert got.info[name].calls == want.info[name].calls, name
    for key in ("passes", "passes_measured"):
        assert got.metadata[key] == want.metadata[key]


@pytest.mark.parametrize("per_call", [False, True], ids=["together", "per_call"])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost(name: str, per_call: bool) -> None:
    model, data = net(), batches(60)
    act = model[2]
    model = nn.Sequential(model[0], act, model[1], act, *model[3:])  # one layer called twice
    want = serial(model, data, backend=name, per_call=per_call)
    with fmstats.track(model, backend=name, per_call=per_call) as tracker:
        run_each(model, [data[i::THREADS] for i in range(THREADS)])
    assert_same(tracker.stats(), want)
    assert ("1#1" in want) == per_call


@pytest.mark.parametrize("name", NAMES)
def test_first_calls_race(name: str) -> None:
    model = net()
    data = [torch.randn(1 + i, 3, 6, 6) for i in range(THREADS)]
    want = serial(model, data, backend=name)
    for _ in range(20):
        with fmstats.track(model, backend=name) as tracker:
            run_each(model, [[x] for x in data])
        assert_same(tracker.stats(), want)
        assert len(tracker.coverage()) == len(want)


def test_a_backend_that_is_slow_to_begin_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that compiles: every thread meets a layer that another has only begun."""
    choose, model, data = rows.choose_backend, net(), batches(THREADS)

    def slowly(*args: object) -> object:
        time.sleep(0.02)
        return choose(*args)  # type: ignore[arg-type]

    want = serial(model, data)
    monkeypatch.setattr(rows, "choose_backend", slowly)
    with fmstats.track(model) as tracker:
        run_each(model, [[x] for x in data])
    assert_same(tracker.stats(), want)


@pytest.mark.parametrize("name", NAMES)
def test_another_shape_while_a_tensor_is_recognised(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch lets other threads run when it is asked what a tensor is."""
    model, is_neg = nn.Sequential(nn.Identity()), Tensor.is_neg
    x, other = torch.randn(2, 3, 4, 4), torch.randn(40, 3, 9, 9)
    others = [other]

    def meanwhile(tensor: Tensor) -> bool:
        if others:
            thread = threading.Thread(target=model, args=(others.pop(),))
            thread.start()
            thread.join(10)
        return is_neg(tensor)

    with fmstats.track(model, backend=name) as tracker:
        model(x)
        model(x)
        monkeypatch.setattr(Tensor, "is_neg", meanwhile)
        model(x)
        monkeypatch.undo()
        if others:
            model(others.pop())
    assert_row(tracker.stats()["0"], [x.double()] * 3 + [other.double()], 1)


def test_several_widths_in_several_threads() -> None:
    """Whatever row another thread was in last."""
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    data = [torch.randn(2, 3 + i % 5, 4, 4) for i in range(6 * THREADS)]
    want = serial(model, data)
    assert len(want) == 10
    with fmstats.track(model) as tracker:
        run_each(model, [data[i::THREADS] for i in range(THREADS)])
    assert_same(tracker.stats(), want)


def test_rows_of_calls_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though threads ask for the row of a call while another is making it."""
    act, data = nn.ReLU(), batches(THREADS)
    model = nn.Sequential(act, nn.Tanh(), act)
    want = serial(model, data, per_call=True)

    class Slow(calls.Layer):
        def __init__(self, *args: Any) -> None:
            time.sleep(0.02)
            super().__init__(*args)

    monkeypatch.setattr(calls, "Layer", Slow)
    with fmstats.track(model, per_call=True) as tracker:
        run_each(model, [[x] for x in data])
    assert_same(tracker.stats(), want)


def test_no_state_is_read_half_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's operations let other threads run; here they do between any two fields."""

    def slowly(self: State, other: State) -> None:
        both = merge(self, other)
        for row in range(len(FIELDS)):
            self.words[row] = both.words[row]
            time.sleep(1e-4)

    model, x = nn.Sequential(nn.Identity()), torch.tensor([[1.0], [3.0]]).expand(2, 5)
    monkeypatch.setattr(State, "merge_", slowly)
    with fmstats.track(model, backend="torch") as tracker:
        thread = threading.Thread(target=lambda: [model(x) for _ in range(40)])
        thread.start()
        while thread.is_alive():
            for stats in tracker.stats().values():
                assert (stats.state["m2"] == stats.count).all()
                assert (stats.max == 3).all()
        thread.join()
    assert tracker.stats()["0"].count.tolist() == [80] * 5


@pytest.mark.parametrize("name", NAMES)
def test_stats_read_during_the_run_are_whole(name: str) -> None:
    model, data = net(), batches(40)
    want = serial(model, data * 2, backend=name)
    running, seen = threading.Event(), []
    running.set()

    def read() -> None:
        while running.is_set():
            seen.append(tracker.stats())
            tracker.coverage()

    with fmstats.track(model, backend=name) as tracker:
        reader = threading.Thread(target=read)
        reader.start()
        try:
            run_each(model, [data, data])
        finally:
            running.clear()
            reader.join(30)
    assert not reader.is_alive()
    assert len(seen) > 3
    last: dict[str, int] = {}
    for profile in seen:
        for layer, stats in profile.items():
            counts = stats.count
            assert (counts == counts[0]).all(), (layer, counts)
            assert (stats.state["m2"] >= 0).all()
            assert (stats.min <= stats.mean).all()
            assert (stats.mean <= stats.max).all()
            assert counts[0] >= last.get(layer, 0)
            last[layer] = int(counts[0])
    assert_same(tracker.stats(), want)


def test_coverage_is_read_while_a_pass_adds_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole pass runs, as in another thread, between two rows of a coverage."""
    model, x, asked = (
        nn.Sequential(nn.Conv2d(3, 3, 1), ResidualBlock(3)),
        torch.ones(2, 3, 4, 4),
        [],
    )

    def why_partial(layer: Layer) -> None:
        if not asked:
            asked.append(layer.name)
            model(x)

    monkeypatch.setattr(Layer, "why_partial", why_partial)
    with fmstats.track(model) as tracker:
        before, after = len(tracker.coverage()), len(tracker.coverage())
    assert asked == ["0"]
    assert before < after


def test_a_snapshot_is_of_whole_batches() -> None:
    """Every batch adds as much to mean and m2 as to the count: no state between two of them."""
    model, x = nn.Sequential(nn.Identity()), torch.tensor([[1.0], [3.0]]).expand(2, 64)
    for name in NAMES:
        stop, begun = threading.Event(), threading.Event()
        counts = set()
        with fmstats.track(model, backend=name) as tracker:

            def run(stop: threading.Event = stop, begun: threading.Event = begun) -> None:
                while not stop.is_set():
                    model(x)
                    begun.set()

            thread = threading.Thread(target=run)
            thread.start()
            try:
                assert begun.wait(30)
                while len(counts) < 50:  # snapshots between which the model ran
                    for stats in tracker.stats().values():
                        counts.add(int(stats.count[0]))
                        assert (stats.mean == 2).all()
                        assert (stats.state["m2"] == stats.count).all()
                        assert (stats.count % 2 == 0).all()
            finally:
                stop.set()
                thread.join(30)


def test_replicas_of_data_parallel() -> None:
    """What nn.DataParallel runs in threads: replicas that share the hooks of their original."""
    model, data = net(), batches(40)
    want = serial(model, data)

    def replica(module: nn.Module) -> nn.Module:
        copy: nn.Module = module._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        for name, child in module.named_children():
            setattr(copy, name, replica(child))
        for name, parameter in module._parameters.items():
            object.__setattr__(copy, name, parameter)
        return copy

    with fmstats.track(model) as tracker:
        replicas = [replica(model) for _ in range(THREADS)]
        together(
            [
                lambda m=m, share=data[i::THREADS]: [m(x) for x in share]  # type: ignore[misc]
                for i, m in enumerate(replicas)
            ]
        )
    assert_same(tracker.stats(), want)  # the passes of all replicas, too


def in_a_fork(work: Callable[[], bool]) -> int:
    """The exit status of a child that does this: 0 for True."""
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a deadlock ends the child, not the test
        status = 3
        try:
            # With torch's own threads, which a fork has not, any convolution would wait for ever.
            torch.set_num_threads(1)
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_a_fresh_process(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test by itself: what other tests leave running may hold a lock when it forks."""

    @functools.wraps(test)
    def run(*args: object, **kwargs: object) -> None:
        if FRESH in os.environ:
            test(*args, **kwargs)
            return
        name = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, FRESH: "1"},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run


FRESH = "FMSTATS_FRESH_PROCESS"
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
# Python from 3.12 on warns of forks beside threads.
quiet = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@forks
@quiet
@pytest.mark.parametrize("name", NAMES)
@in_a_fresh_process
def test_a_fork_counts_for_itself(name: str) -> None:
    model, data = net(), batches(6)
    with torch.no_grad(), fmstats.track(model, backend=name) as tracker:
        for x in data:
            model(x)
        before = tracker.stats()

        def work() -> bool:
            for x in data:
                model(x)
            return bool((tracker.stats()["0"].count == 2 * before["0"].count).all())

        assert in_a_fork(work) == 0
        after = tracker.stats()
        assert all(torch.equal(after[n].state.words, before[n].state.words) for n in before)
        for x in data:
            model(x)
    assert (tracker.stats()["0"].count == 2 * before["0"].count).all()


class FromModel(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Features that a worker computes with the tracked model."""

    def __init__(self, model: nn.Module | None) -> None:
        self.model, self.x = model, torch.randn(12, 3, 6, 6)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        x = self.x[index]
        if self.model is not None:
            with torch.no_grad():
                assert torch.isfinite(self.model(x[None])).all()
        return x


@forks
@quiet
@pytest.mark.parametrize("uses_it", [False, True], ids=["data alone", "using the model"])
@in_a_fresh_process
def test_workers_of_a_loader(uses_it: bool) -> None:
    model = net()
    data = FromModel(model if uses_it else None)
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=2, multiprocessing_context="fork", timeout=30
    )
    seen, _ = captured(model, lambda: [model(x) for x in data.x.split(4)])
    with torch.no_grad(), fmstats.track(model) as tracker:
        model(data.x[:4])
        tracker.reset()
        for x in loader:
            model(x)
    profile = tracker.stats()
    assert profile.metadata["passes"] == 3  # the parent's
    for name, outputs in seen.items():
        assert_row(profile[name], outputs, 1)

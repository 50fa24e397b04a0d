"""Do streams and CUDA graphs leave the statistics as they should be?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError, Profile
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from gpu_checks.report import Report, Setup

LONG = 100_000_000  # clocks for which a stream is kept busy: some 50 ms
WARM_UP, REPLAYS = 3, 7
SHAPE, LARGER = (16, 32, 64, 64), (64, 32, 64, 64)


def plain_model() -> nn.Module:
    """Build layers that give the same bits on any stream, in a graph or not."""
    return nn.Sequential(nn.ReLU6(), nn.AvgPool2d(2), nn.Sigmoid(), nn.Flatten()).eval()


def conv_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU6(), nn.Conv2d(48, 8, 1)
    ).eval()


def assert_same(got: Profile, want: Profile, exact: bool = True) -> None:
    """Assert the same bits; or the same counts, and moments equal up to rounding.

    Raises:
        AssertionError: they are not.
    """
    assert list(got) == list(want), (list(got), list(want))
    for name in want:
        a, b = got[name].state, want[name].state
        assert torch.equal(a["count"], b["count"]), (name, "count", a["count"], b["count"])
        if exact:
            assert torch.equal(a.words, b.words), (name, a.words, b.words)
        else:
            torch.testing.assert_close(a["mean"], b["mean"], rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(a["m2"], b["m2"], rtol=1e-3, atol=1e-4)


def track(model: nn.Module, setup: Setup, on_error: str = "raise") -> fmstats.Tracker:
    return fmstats.track(model, backend=setup.backend.name, on_error=on_error)


def eagerly(model: nn.Module, inputs: Mapping[Tensor, int], setup: Setup) -> Profile:
    """Return the statistics of a model's copy after so many passes over each input, in order."""
    copied = copy.deepcopy(model)
    with torch.no_grad(), track(copied, setup) as tracker:
        for x, passes in inputs.items():
            for _ in range(passes):
                copied(x)
    return tracker.stats()


def check_order(setup: Setup, first: torch.cuda.Stream, second: torch.cuda.Stream) -> str:
    """Check that a layer on a new stream waits for the old one's work on its state.

    Raises:
        AssertionError: it did not, or the state is not that of one stream.
    """
    x, y = torch.randn(SHAPE, device=setup.device), 5 + torch.randn(SHAPE, device=setup.device)
    view, thresholds = view_of(x, 1), Thresholds()
    want = setup.backend.meter(State.identity(view.channels, setup.device), thresholds)
    for batch in (x, x, y):
        want.update(batch, view)  # compiles and loads too
    setup.wait()
    with torch.cuda.stream(first):
        meter = setup.backend.meter(State.identity(view.channels, setup.device), thresholds)
        meter.update(x, view)  # allocates
        torch.cuda._sleep(LONG)
        meter.update(x, view)
        first_done = torch.cuda.Event()
        first_done.record(first)
    with torch.cuda.stream(second):
        assert not meter.try_update(y), "the fast way was taken though the stream changed"
        meter.update(y, view)
        second_done = torch.cuda.Event()
        second_done.record(second)
    overtook = second_done.query() and not first_done.query()
    setup.wait()
    assert not overtook, "the second stream did not wait for the first"
    assert torch.equal(meter.state.words, want.state.words), "another state than on one stream"
    return "waited, and the same bits as on one stream"


def check_alternating(setup: Setup) -> str:
    """Check a model that runs on two streams alternately.

    Raises:
        AssertionError: the state is not that of one stream.
    """
    model, passes = plain_model().to(setup.device), 20
    x = torch.randn(SHAPE, device=setup.device)
    want = eagerly(model, {x: passes}, setup)
    setup.wait()
    streams = [torch.cuda.Stream(setup.device) for _ in range(2)]
    with torch.no_grad(), track(model, setup) as tracker:
        for n in range(passes):
            with torch.cuda.stream(streams[n % 2]):
                model(x)
    setup.wait()
    assert_same(tracker.stats(), want)
    return f"{passes} passes, the same bits as on one stream"


def check_stats_wait(setup: Setup) -> str:
    """Check that `stats()`, called on another stream, waits for the layers' own.

    Raises:
        AssertionError: it did not.
    """
    model = plain_model().to(setup.device)
    x = torch.randn(SHAPE, device=setup.device)
    want = eagerly(model, {x: 2}, setup)
    setup.wait()
    stream = torch.cuda.Stream(setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        with torch.cuda.stream(stream):
            model(x)
            torch.cuda._sleep(LONG)
            model(x)
        found = tracker.stats()
    setup.wait()
    assert_same(found, want)
    return "all batches are in"


def warm_up(run: Callable[[], object], setup: Setup) -> torch.cuda.Stream:
    """Run on a side stream, as a capture needs it; the stream to capture on."""
    stream = torch.cuda.Stream(setup.device)
    stream.wait_stream(torch.cuda.current_stream(setup.device))
    with torch.cuda.stream(stream), torch.no_grad():
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream(setup.device).wait_stream(stream)
    return stream


def capture(run: Callable[[], object], stream: torch.cuda.Stream) -> torch.cuda.CUDAGraph:
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph, stream=stream):
        run()
    return graph


def check_replays(setup: Setup, model: nn.Module, exact: bool) -> str:
    """Capture a tracked forward pass and replay it; eager passes in between.

    Raises:
        AssertionError: the statistics are not those of as many eager passes.
    """
    model = model.to(setup.device)
    x = torch.randn(SHAPE, device=setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        stream = warm_up(lambda: model(x), setup)
        before = tracker.stats()
        graph = capture(lambda: model(x), stream)
        setup.wait()
        assert_same(tracker.stats(), before)  # a capture runs nothing
        for _ in range(REPLAYS):
            graph.replay()
        setup.wait()
        assert_same(tracker.stats(), eagerly(model, {x: WARM_UP + REPLAYS}, setup), exact)
        model(x)
        graph.replay()
        model(x)
        setup.wait()
        assert_same(tracker.stats(), eagerly(model, {x: WARM_UP + REPLAYS + 3}, setup), exact)
    return f"{REPLAYS} replays count as {REPLAYS} passes, eager ones between them too"


def check_gate(setup: Setup) -> str:
    """Pause a tracker between replays: the gate on the device is closed, and opened again.

    Raises:
        AssertionError: replays while it was paused were measured, or others were not.
    """
    model, x = plain_model().to(setup.device), torch.randn(SHAPE, device=setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        stream = warm_up(lambda: model(x), setup)
        graph = capture(lambda: model(x), stream)
        graph.replay()
        tracker.pause()
        for _ in range(REPLAYS):
            graph.replay()
        tracker.resume()
        graph.replay()
        setup.wait()
        found = tracker.stats()
    assert_same(found, eagerly(model, {x: WARM_UP + 2}, setup))
    assert found.metadata["passes"] == WARM_UP + 2, found.metadata["passes"]
    calls = {row.calls for row in found.info.values()}
    assert calls == {WARM_UP + 2}, calls
    return f"2 of {REPLAYS + 2} replays measured, those while the tracker was not paused"


def check_larger(setup: Setup) -> str:
    """Check a larger eager tensor between replays: the graph's workspace has to stay.

    Raises:
        AssertionError: the statistics are not those of eager passes.
    """
    model = plain_model().to(setup.device)
    x, larger = (torch.randn(shape, device=setup.device) for shape in (SHAPE, LARGER))
    x, larger = (t.contiguous(memory_format=torch.channels_last) for t in (x, larger))
    with torch.no_grad(), track(model, setup) as tracker:
        stream = warm_up(lambda: model(x), setup)
        graph = capture(lambda: model(x), stream)
        model(larger)
        blanks = [torch.zeros(1 << 16, device=setup.device) for _ in range(64)]
        for _ in range(REPLAYS):
            graph.replay()
        setup.wait()
        assert not any(blank.any() for blank in blanks), "a replay wrote to foreign memory"
        copied = copy.deepcopy(model)
        with track(copied, setup) as other:
            for batch, passes in ((x, WARM_UP), (larger, 1), (x, REPLAYS)):
                for _ in range(passes):
                    copied(batch)
        assert_same(tracker.stats(), other.stats())
    return "the same bits as eager passes"


def check_reset(setup: Setup) -> str:
    """Check that replays after `reset()` do not write to memory that was freed.

    Raises:
        AssertionError: they did.
    """
    model = plain_model().to(setup.device)
    x = torch.randn(SHAPE, device=setup.device)
    with torch.no_grad(), track(model, setup) as tracker:
        stream = warm_up(lambda: model(x), setup)
        graph = capture(lambda: model(x), stream)
        tracker.reset()
        with torch.cuda.stream(stream):  # what was made on a stream is given out again on it
            blanks = [
                torch.zeros(len(FIELDS), channels, dtype=torch.int64, device=setup.device)
                for channels in (SHAPE[1],) * 32
            ]
        setup.wait()
        graph.replay()
        setup.wait()
        assert not any(blank.any() for blank in blanks), "a replay wrote to foreign memory"
    return "foreign memory is left alone"


def check_refusal(setup: Setup, warm: tuple[int, ...] | None, words: str) -> str:
    """Check that a capture that would need an allocation is refused, without other harm.

    Args:
        setup: where.
        warm: of the batch before the capture, None for no batch at all.
        words: that the error has to say.

    Raises:
        AssertionError: it was not refused, or not in these words.
    """
    model = plain_model().to(setup.device)
    x = torch.randn(LARGER, device=setup.device).contiguous(memory_format=torch.channels_last)
    stream = warm_up(lambda: model(x), setup)
    with torch.no_grad(), track(model, setup) as tracker:
        if warm is not None:
            small = torch.randn(warm, device=setup.device)
            warm_up(lambda: model(small.contiguous(memory_format=torch.channels_last)), setup)
        try:
            capture(lambda: model(x), stream)
        except FmstatsError as error:
            refused = str(error)
        else:
            raise AssertionError("the capture was not refused")
        assert words in refused, refused
        setup.wait()
        tracker.reset()
        model(x)
        setup.wait()
        assert_same(tracker.stats(), eagerly(model, {x: 1}, setup))
    return refused


def run(setup: Setup, report: Report) -> None:
    """Run all checks of this module."""
    side, other = (torch.cuda.Stream(setup.device) for _ in range(2))
    default = torch.cuda.default_stream(setup.device)
    for name, first, second in (
        ("from the default stream to another", default, side),
        ("from a stream to the default one", side, default),
        ("from a stream to another", side, other),
    ):
        report.check(name, lambda a=first, b=second: check_order(setup, a, b))
    report.check("two streams in turn", lambda: check_alternating(setup))
    report.check("stats() on another stream", lambda: check_stats_wait(setup))
    report.check("graph replays", lambda: check_replays(setup, plain_model(), True))
    report.check("graph replays, paused in between", lambda: check_gate(setup))
    report.check(
        "graph replays, with convolutions", lambda: check_replays(setup, conv_model(), False)
    )
    report.check("graph replays after a larger tensor", lambda: check_larger(setup))
    report.check(
        "capture of a layer never run", lambda: check_refusal(setup, None, "for the first time")
    )
    report.check("a reset while a graph is held", lambda: check_reset(setup))

"""A budget keeps to its share of the host's time and of a GPU's, by clocks that tests turn."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from stub_device import GPU, Machine, Run, clocks_on
from torch import nn

import fmstats
from fmstats.tracking.allowance import Allowance
from fmstats.tracking.budget import Budget
from fmstats.tracking.clocks import Clocks
from fmstats.tracking.device_time import POOL, Contrast, DeviceTimer, DeviceTimers
from fmstats.tracking.layers import Layer
from fmstats.tracking.sampling import Every

# The seconds of host and device, for a pass and for measuring it. The host is faster than the
# device, so that it runs ahead, or slower, so that the device waits for it.
DEVICE_BOUND = (0.2, 1.0), (0.02, 0.3)
HOST_BOUND = (1.0, 0.2), (0.3, 0.002)
BOUND = {"device": (DEVICE_BOUND, 5.0), "host": (HOST_BOUND, 5.0)}


def run_of(share: float, bound: str = "device", lead: float | None = None) -> Run:
    times, usual = BOUND[bound]
    return Run(share, Machine(usual if lead is None else lead), *times)


def told(run: Run, key: str) -> float:
    value = run.budget.describe()[key]
    assert isinstance(value, float)
    return value


@pytest.mark.parametrize("bound", BOUND)
@pytest.mark.parametrize(("share", "every"), [(0.01, 30), (0.05, 6), (0.15, 2), (0.5, 1)])
def test_within_20_passes_it_knows_how_many_to_take(bound: str, share: float, every: int) -> None:
    run = run_of(share, bound)
    run.go(20)
    assert run.budget.every_now() == every


@pytest.mark.parametrize("bound", BOUND)
@pytest.mark.parametrize("share", [0.01, 0.02, 0.05, 0.15])
def test_over_1000_passes_the_share_is_kept(bound: str, share: float) -> None:
    run = run_of(share, bound)
    run.go(1000)
    kept = run.share_of_device if bound == "device" else run.share_of_host
    assert kept == pytest.approx(share, rel=0.1)
    other = run.share_of_host if bound == "device" else run.share_of_device
    assert other < 0.5 * share
    assert run.machine.made <= 2 * POOL


def test_both_clocks_have_to_pay() -> None:
    """The host pays for one pass in 5, the device for one in 20, or the other way round."""
    for cost in ((0.25, 1.0), (1.0, 0.25)):
        run = Run(0.05, Machine(5.0), (0.2, 1.0), cost)
        run.go(1000)
        assert run.budget.every_now() == 20
        assert sum(run.taken) == pytest.approx(1000 / 20, rel=0.1)


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_what_it_tells_is_what_was_spent(share: float) -> None:
    run = run_of(share)
    run.go(1000)
    assert told(run, "budget_spent_device") == pytest.approx(run.share_of_device, rel=0.01)
    assert told(run, "budget_spent_device") == pytest.approx(share, rel=0.1)
    assert told(run, "every") == pytest.approx(1000 / sum(run.taken))
    run = run_of(share, "host")
    run.go(1000)
    assert told(run, "budget_spent") == pytest.approx(run.share_of_host, rel=1e-6)


@pytest.mark.parametrize("bound", BOUND)
def test_the_first_pass_is_not_counted(bound: str) -> None:
    """It takes as long as thousands of others, and neither pays for anything nor is paid for."""
    run = run_of(0.05, bound)
    run.go(1000, compiling=lambda number: 0.0 if number else 5000.0)
    usual = run_of(0.05, bound)
    usual.go(1000)
    assert run.measured == usual.measured
    assert told(run, "budget_spent") == pytest.approx(told(usual, "budget_spent"), rel=0.1)


@pytest.mark.parametrize("bound", BOUND)
@pytest.mark.parametrize("late", [1, 2, 3, 100])
def test_a_later_pass_may_compile_too(bound: str, late: int) -> None:
    """That one pass is paid for as 100, at most, and pays for 4."""
    run = run_of(0.05, bound)
    run.go(1000, compiling=lambda number: 5000.0 if number == late else 0.0)
    paying = 100 * run.cost[0] / 0.05 if run.taken[late] else 0.0
    assert run.budget.every_now() == 6
    assert (1000 - paying) / 6 - 10 < sum(run.taken) < 1000 / 6 + 10


@pytest.mark.parametrize("began", [1, 3, 5, 50, 51, 52])
@pytest.mark.parametrize(
    ("factor", "share"), [(2.0, 0.01), (2.0, 0.05), (2.0, 0.15), (5.0, 0.05), (5.0, 0.15)]
)
def test_a_device_that_is_slower_for_a_while(began: int, factor: float, share: float) -> None:
    run = run_of(share, lead=10.0)
    run.go(1000, slow=lambda number: factor if began <= number < began + 400 else 1.0)
    assert run.share_of_device == pytest.approx(share, rel=0.1)
    assert told(run, "budget_spent_device") == pytest.approx(share, rel=0.1)


def test_a_device_that_is_slower_while_every_pass_is_measured() -> None:
    """Some passes are left out all the same, so that it is seen that it is not the measuring."""
    run = Run(0.05, Machine(5.0), (0.1, 1.0), (0.001, 0.02))
    run.go(1000, slow=lambda number: 3.0 if 203 <= number < 502 else 1.0)
    assert sum(run.taken) > 0.9 * 1000
    assert run.budget.every_now() == 1
    assert told(run, "budget_spent_device") == pytest.approx(run.share_of_device, rel=0.1)


@pytest.mark.parametrize("first", range(7))
@pytest.mark.parametrize("between", [6, 7, 30, 97])
def test_a_device_that_is_disturbed_now_and_then(first: int, between: int) -> None:
    """As by another process, for the time of 50 passes; also in measured passes alone."""
    run = run_of(0.05)
    run.go(1000, disturbed=lambda number: 50.0 if number % between == first else 0.0)
    assert run.share_of_device == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("seed", range(10))
def test_a_device_that_is_disturbed_at_random(seed: int) -> None:
    luck = random.Random(seed)
    run = run_of(0.05)
    run.go(1000, disturbed=lambda number: 50.0 if luck.random() < 0.1 else 0.0)
    assert run.share_of_device == pytest.approx(0.05, rel=0.1)


def test_a_row_of_disturbed_passes() -> None:
    run = run_of(0.05)
    run.go(1000, disturbed=lambda number: 20.0 if 100 <= number % 250 < 108 else 0.0)
    assert run.share_of_device == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_times_that_are_never_the_same(seed: int) -> None:
    luck = random.Random(seed)
    run = run_of(0.02)
    run.go(1000, slow=lambda number: luck.gauss(1.0, 0.02))
    assert run.share_of_device == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("lead", [0.5, 3.0, 7.5])
def test_a_device_that_is_passes_behind(lead: float) -> None:
    run = run_of(0.05, lead=lead)
    run.go(30)
    assert run.budget.every_now() == 6
    run.go(970)
    assert run.share_of_device == pytest.approx(0.05, rel=0.1)


def test_a_device_that_is_far_behind() -> None:
    """Until it has come to the first ones, no more are measured; events are not added."""
    run = run_of(0.05, lead=60.0)
    run.go(40)
    assert sum(run.taken) == 4
    assert run.budget.every_now() == 20  # as long as one is taken to cost as much as a pass
    run.go(960)
    assert run.budget.every_now() == 6
    assert run.share_of_device <= 0.05
    assert run.machine.made == 2 * POOL


def test_the_cost_changes_for_good() -> None:
    run = run_of(0.05)
    run.go(500)
    run.cost = (0.02, 1.2)
    run.go(500)
    assert run.budget.every_now() == 24
    assert run.share_of_device == pytest.approx(0.05, rel=0.1)
    before = sum(run.taken)
    run.cost = (0.02, 0.3)
    run.go(500)
    assert run.budget.every_now() == 6
    assert sum(run.taken) - before > 30


def test_a_pass_of_a_graph_has_no_events() -> None:
    run = run_of(0.05, "host")
    run.go(1)
    run.machine.capturing = True
    run.go(80)  # none of the events' assertions fails
    run.machine.capturing = False
    assert run.machine.made <= 2
    assert sum(run.taken[20:]) <= 10  # it does not go on trying to learn what a GPU does for it
    run.go(200)
    assert run.budget.every_now() == 6
    run.machine.capturing = True
    assert run.budget.every_now() == 6


def test_a_capture_that_begins_or_ends_within_a_pass() -> None:
    machine = Machine()
    timer = DeviceTimer(GPU, machine)
    pair = timer.begin(True)
    assert pair is not None
    machine.capturing = True
    timer.end(pair)
    assert timer.begin(True) is None
    machine.capturing = False
    assert (timer.read(), timer.awaited) == ([], 0)


def test_every_says_so_too() -> None:
    assert Every(7).every_now() == 7
    assert not Every(7).timed


def test_before_anything_is_known() -> None:
    assert Budget(0.01).every_now() == 100
    assert run_of(0.3).budget.every_now() == 4


def test_nothing_of_a_device_is_told_before_it_is_known() -> None:
    run = run_of(0.05)
    run.go(5)
    assert set(run.budget.describe()) == {"budget", "budget_spent", "every"}
    run.go(15)
    assert set(run.budget.describe()) == {"budget", "budget_spent", "budget_spent_device", "every"}


def test_after_a_reset_the_costs_are_known() -> None:
    run = run_of(0.05)
    run.go(100)
    run.budget.reset()
    assert told(run, "budget_spent_device") == 0.0
    run.taken.clear()
    run.go(600)
    assert run.measured[0] == 0
    assert sum(run.taken) == pytest.approx(100, abs=2)
    assert sum(run.taken[:12]) <= 3


def test_passes_that_never_end_keep_no_events() -> None:
    run = run_of(0.05)
    run.go(3)
    for _ in range(3 * POOL):
        run.budget.take()
    assert run.machine.made < POOL
    run.go(100)
    assert run.budget.every_now() == 6


def test_events_are_of_a_pool() -> None:
    machine = Machine(lead=1e9)
    timer = DeviceTimer(GPU, machine)
    for _ in range(3 * POOL):
        pair = timer.begin(False)
        machine.run(1.0)
        if pair is not None:
            timer.end(pair)
    assert machine.made == 2 * POOL
    assert timer.begin(False) is None
    assert timer.read() == []
    machine.now = 1e9
    assert timer.read() == []
    assert timer.begin(True) is not None
    assert machine.made == 2 * POOL


def test_passes_far_from_measured_ones_have_no_events() -> None:
    run = run_of(0.01, lead=0.9)
    run.go(1000)
    assert run.machine.recorded <= 2 * (2 + 3 * sum(run.taken))


def test_what_measured_passes_are_compared_with() -> None:
    contrast = Contrast()
    assert (contrast.awaited, contrast.is_ready) == (0, False)
    passes = [(1.0, False), (1.5, True), (1.2, False), (9.0, True), (1.1, False), (1.0, False)]
    known = [contrast.add(time, measured) for time, measured in passes]
    one, other = pytest.approx(1.5 / 1.1 - 1), pytest.approx(9 / 1.1 - 1)
    assert known == [None, None, one, None, other, None]
    assert (contrast.awaited, contrast.is_ready) == (0, True)
    for time in (1.5, 1.6, 4.0):  # a run counts once, with its median
        assert contrast.add(time, True) is None
    assert contrast.awaited == 1
    assert contrast.add(9.0, False) == pytest.approx(1.6 / 1.1 - 1)
    assert contrast.awaited == 0


def test_a_device_that_takes_no_time_at_all() -> None:
    contrast = Contrast()
    for time, measured in ((0.0, False), (0.0, True), (0.0, False), (0.0, False)):
        assert contrast.add(time, measured) is None


def test_a_device_without_events_is_left_to_the_host() -> None:
    clocks = Clocks()
    clocks.on(torch.device("meta"))
    timers = DeviceTimers(clocks)
    assert timers.read() == []
    assert not timers.begin(True)
    assert Budget(0.5, timers).take()


def test_the_one_of_several_devices_that_measuring_slows_most() -> None:
    """It costs each little at first, and later one of them much."""
    machines = [Machine(5.0, torch.device("cuda", number)) for number in range(3)]
    of_device = {machine.device: machine for machine in machines}
    clocks = clocks_on(*of_device)
    timers = DeviceTimers(clocks, lambda device: DeviceTimer(device, of_device[device]))
    budget, spent = Budget(0.05, timers), 0.0
    for number in range(1000):
        now, taken = max(machine.now for machine in machines), budget.take()
        for place, machine in enumerate(machines):
            cost = 0.5 if place == 1 and number >= 300 else 0.02
            machine.now = now
            machine.run(1.0 + taken * cost)
            spent += taken * cost if place == 1 and number else 0.0
        budget.spend(1e-4 * taken)
        budget.end(1.0)
        if number == 299:
            assert budget.every_now() == 1
    assert budget.every_now() == 10
    assert 0.04 * 1000 < spent <= 0.05 * 1000 * 1.1
    told = [allowance.spent_share for allowance in budget.devices.values()]
    assert told[1] > 1.5 * told[0]
    assert budget.describe()["budget_spent_device"] == told[1]


def test_it_is_known_as_soon_as_it_is_asked_for() -> None:
    for ask in (Budget.every_now, Budget.describe):
        run = run_of(0.05, lead=7.0)
        run.go(12)
        before = ask(run.budget)
        run.machine.now += 100.0
        assert ask(run.budget) != before


def test_devices_that_come_later_are_timed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, clocks = Machine(), Clocks()
    monkeypatch.setattr(torch, "get_device_module", lambda device: machine)
    timers = DeviceTimers(clocks)
    assert (list(timers.read()), list(timers.begin(True))) == ([], [])
    for count in range(1, 4):
        device = torch.device("cuda", count)
        clock = SimpleNamespace(words=SimpleNamespace(device=device))
        clocks.on_devices = (*clocks.on_devices, clock)  # type: ignore[assignment]
        assert [each for each, _ in timers.read()][-1] == device
        assert len(timers.read()) == count
    assert [timers.awaited(torch.device("cuda", number)) for number in (1, 2, 3)] == [0, 0, 0]


def test_mps_has_one_stream() -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.recorded = False

        def record(self) -> None:
            self.recorded = True

    timer = DeviceTimer(torch.device("mps"), SimpleNamespace(Event=Event))
    pair = timer.begin(True)
    assert pair is not None
    assert isinstance(pair.begin, Event)
    assert pair.begin.recorded


class Kernel(nn.Module):
    """A layer whose kernels run on a machine's device."""

    def __init__(self, machine: Machine, seconds: float) -> None:
        super().__init__()
        self.machine, self.seconds = machine, seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.machine.run(self.seconds)
        return x + 0


@pytest.mark.parametrize("compiled", [False, True])
def test_a_tracker_keeps_to_the_time_of_its_devices(
    monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    machine = Machine(lead=5.0)
    for module in ("sampling", "pass_hooks"):
        monkeypatch.setattr(f"fmstats.tracking.{module}.clock", lambda: machine.now)
    monkeypatch.setattr("fmstats.tracking.device_time.DeviceTimers.__init__", of_tracker(machine))
    update = Layer.update

    def measure(self: Layer, output: object) -> None:
        machine.run(0.1)
        update(self, output)

    monkeypatch.setattr(Layer, "update", measure)
    kernels = [Kernel(machine, 0.25) for _ in range(3)]
    model = nn.Sequential(*kernels[:2], nn.Sequential(kernels[2]))
    if compiled:  # the rest runs as it is
        monkeypatch.setattr(Kernel, "forward", torch.compiler.disable(Kernel.forward))
    run = torch.compile(model, backend="eager") if compiled else model
    with fmstats.track(model, budget=0.05) as tracker, torch.no_grad():
        for _ in range(600):
            run(torch.ones(2, 3))
    metadata = tracker.stats().metadata
    assert metadata["passes_measured"] == pytest.approx(600 * 0.05 / 0.4, rel=0.1)
    assert metadata["budget_spent_device"] == pytest.approx(0.05, rel=0.1)
    assert tracker.pass_hook.sampling.every_now() == 8


def of_tracker(machine: Machine) -> Callable[[DeviceTimers, Clocks], None]:
    """How timers are made of a tracker's clocks, which know one device more than it has."""
    make = DeviceTimers.__init__

    def init(self: DeviceTimers, clocks: Clocks) -> None:
        clocks.on_devices = machine.clocks().on_devices
        clocks.begin_pass = lambda *taken: None  # type: ignore[method-assign]
        make(self, clocks, lambda device: DeviceTimer(device, machine))

    return init


def test_an_allowance_saves_little() -> None:
    allowance = Allowance(0.5)
    for _ in range(3):
        allowance.learn(1.0, 1.0)
    assert (allowance.cost, allowance.credit, allowance.spent) == (1.0, -3.0, 3.0)
    assert not allowance.affords(1)
    allowance.gain(8.0)
    assert allowance.affords(1)
    allowance.gain(1000.0)
    assert allowance.credit == 4.0
    allowance.pay(1000.0)
    assert allowance.credit == -96.0
    assert allowance.spent == 1003.0


def test_what_a_pass_usually_costs_is_the_median_of_nine() -> None:
    allowance = Allowance(0.5)
    for cost in (1.0, 3.0, 2.0):
        allowance.learn(cost, 1.0)
    assert allowance.cost == 2.0
    for _ in range(9):
        allowance.learn(5.0, 1.0)
    assert allowance.costs == (5.0,) * 9
    for cost, usual in zip([7.0] * 5, [5.0] * 4 + [7.0], strict=True):
        allowance.learn(cost, 1.0)
        assert allowance.cost == usual


def test_how_long_a_pass_usually_takes_is_the_median_of_nine() -> None:
    allowance = Allowance(0.5)
    assert allowance.every == 2  # as long as nothing is known
    for _ in range(9):
        allowance.learn(6.0, 1.0)
    assert allowance.every == 12
    for every in (12, 12, 12, 12, 6):
        allowance.learn(6.0, 2.0)
        assert allowance.every == every


def test_a_pass_is_cheap_if_the_last_one_was() -> None:
    allowance = Allowance(0.5)
    for cost, cheap in ((1.0, False), (1.0, False), (2.0, True), (2.1, False), (9.0, False)):
        allowance.learn(cost, 4.0)
        assert allowance.is_cheap == cheap
    allowance.learn(1.9, 4.0)
    assert allowance.is_cheap


def test_what_is_saved_is_less_where_passes_are_cheaper() -> None:
    allowance = Allowance(0.5)
    for _ in range(3):
        allowance.learn(1.0, 1.0)
    allowance.gain(100.0)
    assert allowance.credit == 4.0
    for _ in range(5):
        allowance.learn(0.25, 1.0)
    assert (allowance.cost, allowance.credit) == (0.25, 1.0)


def test_the_first_ones_are_paid_for_out_of_what_was_gained() -> None:
    allowance = Allowance(0.5)
    allowance.gain(7.0)
    for _ in range(3):
        allowance.learn(1.0, 1.0)
    assert (allowance.credit, allowance.spent_share) == (0.5, 3 / 7)

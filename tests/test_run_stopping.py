"""Signals stop a run: at once while data are read, after the batch while one runs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest
from diagnosis_profiles import profile_of

from fmstats.runs.stopping import Interrupts, RunInterrupted

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def _defaults():
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize("number", SIGNALS)
def test_outside_a_batch_a_signal_is_at_once(number):
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def hold(interrupts, *steps, broken=()):
    """What is done of some steps in a batch that is held, those of `broken` where it may break."""
    done = []
    with interrupts.held():
        with interrupts.breakable():
            done += [step() for step in broken]
        done += [step() for step in steps]
    return done


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_batch_is_ended_first(number):
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            hold(interrupts, lambda: signal.raise_signal(number), lambda: done.append("batch"))
        assert done == ["batch"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)  # held no longer


def test_without_a_signal_nothing_is_raised():
    with Interrupts() as interrupts:
        assert hold(interrupts, int, broken=[str]) == ["", 0]


def test_the_second_signal_breaks_off_what_may_be_broken():
    done = []
    steps = interrupt, lambda: done.append("first"), interrupt, lambda: done.append("second")
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        hold(interrupts, lambda: done.append("rest"), broken=steps)
    assert done == ["first"]


def test_what_may_not_be_broken_takes_any_number_of_signals():
    done = []
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            hold(interrupts, interrupt, lambda: done.append("written"), broken=[interrupt])
        assert done == ["written"]


def test_an_error_of_the_batch_says_more_than_a_signal():
    with Interrupts() as interrupts, pytest.raises(ZeroDivisionError):
        hold(interrupts, interrupt, lambda: 1 / 0)


def test_at_the_end_no_signal_disturbs():
    with Interrupts() as interrupts, interrupts.breakable():
        interrupts.stop()
        interrupt()
        interrupt()


def test_handlers_come_back_and_those_of_others_stay():
    before = handlers()
    with Interrupts():
        assert all(one != other for one, other in zip(handlers(), before, strict=True))
    assert handlers() == before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Interrupts():
        assert handlers()[0] != before[0]
        assert handlers()[1] == signal.SIG_IGN
    assert handlers() == [before[0], signal.SIG_IGN]


def test_another_thread_leaves_them_alone():
    before, seen, failed = handlers(), [], []

    def work():
        try:
            with Interrupts():
                seen.extend(handlers())
        except ValueError as error:  # no other thread than the main one may set handlers
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (seen, failed) == (before, [])


def test_what_is_said():
    profile = profile_of(samples=12, batches=3)
    told = RunInterrupted(profile, Path("a.fmstats"))
    assert isinstance(told, KeyboardInterrupt)
    assert (told.profile, told.checkpoint) == (profile, Path("a.fmstats"))
    assert str(told).startswith("interrupted after 12 samples; 'a.fmstats' ")
    without = str(RunInterrupted(None, None))
    assert without.startswith("interrupted after 0 batches; ")
    assert "no checkpoint" in without

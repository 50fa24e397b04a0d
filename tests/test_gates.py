"""The gate that all hooks of a tracker ask."""

from __future__ import annotations

from fmstats.tracking.gates import Gate


def test_a_gate() -> None:
    gate = Gate()
    assert gate.open
    gate.set(sampled=False)
    assert not gate.open
    gate.set(sampled=True, paused=True)
    assert not gate.open
    gate.set(paused=False)
    assert gate.open
    gate.set(closed=True)
    gate.set(sampled=True, paused=False)
    assert not gate.open


def test_rows_are_numbered_from_0_as_those_of_a_restored_profile_are() -> None:
    gate = Gate()
    assert [gate.next_execution_index() for _ in range(3)] == [0, 1, 2]

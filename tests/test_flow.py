"""Loops, and ways round them, in code written by hand: no tools are needed."""

from __future__ import annotations

import importlib

sass = importlib.import_module("hardware.sass")


def assemble(*lines: str) -> object:
    """A kernel of one instruction a line, 16 bytes apart."""
    code = []
    for number, line in enumerate(lines):
        head, _, tail = line.partition(" ")
        predicate, rest = (head[1:], tail) if head.startswith("@") else ("", line)
        opcode, _, operands = rest.partition(" ")
        code.append(sass.Instruction(16 * number, predicate, opcode, operands))
    return sass.KernelCode("kernel", sass.Resources(32, 0, 0, 0), code)


def test_loads_of_two_rounds_meet() -> None:
    code = assemble(
        "LDG.E.128 R4, [R2.64]",
        "FADD R0, R0, R4",
        "FADD R1, R1, R8",
        "LDG.E.128 R8, [R2.64+0x10]",
        "@P0 BRA 0x0",
        "EXIT ",
    )
    assert sass.loads_in_flight(sass.hot_loop(code)) == 32


def test_the_way_round_leads_through_the_work() -> None:
    # The arithmetic is jumped over where there is nothing to read, by both forms of a condition.
    code = assemble(
        "LDG.E.128 R4, [R2.64]",
        "BRA P1, 0x40",
        "FADD R0, R0, R4",
        "FADD R0, R0, R5",
        "@!P2 BRA 0x60",
        "LDG.E.64 R8, [R2.64]",
        "@P0 BRA 0x0",
        "EXIT ",
        "BRA 0x80",
    )
    loop = sass.hot_loop(code)
    assert len(loop.path) == len(loop.instructions) == 7
    assert loop.loads == {16: 1, 8: 1}
    assert loop.global_bytes == 24


def test_bytes_of_a_way_add_up() -> None:
    # One way loads 4 bytes, and in its next block 16; the other, longer one 8.
    code = assemble(
        "@P1 BRA 0x50",
        "LDG.E R4, [R2.64]",
        "@P2 BRA 0x30",
        "LDG.E.128 R8, [R2.64]",
        "BRA 0x90",
        "LDG.E.64 R4, [R2.64]",
        "FADD R0, R0, R4",
        "FADD R0, R0, R5",
        "FADD R0, R0, R1",
        "@P0 BRA 0x0",
        "EXIT ",
    )
    loop = sass.hot_loop(code)
    assert loop.loads == {4: 1, 16: 1}
    assert loop.global_bytes == 20
    assert len(loop.path) == 6
    assert len(loop.instructions) == 10


def test_a_wait_for_others_goes_on_where_it_was_said() -> None:
    # From 0x30 both ways meet at 0x60: the instructions between are not part of the loop.
    code = assemble(
        "LDG.E R4, [R2.64]",
        "BSSY B0, 0x60",
        "@P1 BRA 0x40",
        "BSYNC B0",
        "FADD R0, R0, R4",
        "BSYNC B0",
        "@P0 BRA 0x0",
        "EXIT ",
    )
    loop = sass.hot_loop(code)
    assert [i.address for i in loop.path] == [0, 0x10, 0x20, 0x40, 0x50, 0x60]
    assert len(loop.instructions) == 7


def test_a_wide_load_fills_two_quads_of_registers() -> None:
    wide = sass.Instruction(0, "", "LDG.E.ENL2.256", "R4, R8, desc[UR4][R2.64]")
    assert wide.global_bytes == 32
    assert wide.loaded == set(range(4, 12))
    assert wide.registers == {2, 4, 8}
    strong = sass.Instruction(0, "", "LDG.E.64.STRONG.GPU", "R4, desc[UR4][R2.64]")
    assert strong.global_bytes == 0

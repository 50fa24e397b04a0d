"""Occupancy and the time model against cases worked by hand."""

from __future__ import annotations

import importlib

import pytest

gpus = importlib.import_module("hardware.gpus")
sass = importlib.import_module("hardware.sass")

# 0.9 of everything is attainable: 0.9 TB/s, and 9e10 clocks a second over all multiprocessors.
TOY = gpus.Gpu("toy", (9, 0), "sm_90", 100, 1e9, 1e12, 100e12, 50e12)


@pytest.mark.parametrize(
    ("registers", "shared", "threads", "capability", "blocks"),
    [
        (32, 0, 256, (9, 0), 8),  # 2048 threads
        (124, 0, 256, (9, 0), 2),  # 4096 registers a warp: 4 warps a partition
        (255, 0, 256, (9, 0), 1),  # 8192 a warp: 2 warps a partition
        (40, 0, 128, (9, 0), 12),  # 1280 a warp: 12 warps a partition, not 12.8
        (192, 0, 64, (9, 0), 4),  # 6144 a warp: 2 warps a partition, 8 of the 10 that fit in all
        (168, 0, 128, (8, 0), 3),  # 5376 a warp: 3 warps a partition
        (16, 0, 32, (9, 0), 32),  # blocks
        (16, 0, 32, (12, 0), 24),
        (16, 0, 1024, (12, 0), 1),  # 1536 threads
        (16, 48 << 10, 128, (8, 0), 3),  # 164 KB over 49
        (16, 48 << 10, 128, (9, 0), 4),  # 228 KB over 49
        (16, 48 << 10, 128, (12, 0), 2),  # 100 KB over 49
        (16, 1, 64, (12, 0), 24),
        (255, 0, 1024, (9, 0), 0),  # cannot be launched
        (32, 0, 100, (9, 0), 16),  # four warps each
    ],
)
def test_occupancy(
    registers: int, shared: int, threads: int, capability: tuple[int, int], blocks: int
) -> None:
    resources = sass.Resources(registers, shared, 0, 0)
    assert gpus.blocks_per_multiprocessor(resources, threads, capability) == blocks


def test_each_limit_by_hand() -> None:
    elements = 1.152e9
    pipes = {"ALU": 12.0, "FMA": 3.0, "FMA heavy": 4.0, "packed": 1.0, "XU": 0.5}
    found = gpus.seconds_by_limit(TOY, 9e8, elements, 20.0, pipes, 1 << 15)
    assert found["memory"] == pytest.approx(1e-3)  # 9e8 / 0.9e12
    assert found["issue"] == pytest.approx(2e-3)  # 128 lanes a clock
    assert found["ALU"] == pytest.approx(2.4e-3)  # 64
    assert found["FMA heavy"] == pytest.approx(0.8e-3)  # 64
    assert found["packed"] == pytest.approx(0.2e-3)  # 64
    assert found["FMA"] == pytest.approx(0.9e-3)  # 128, of which a packed one takes two
    assert found["XU"] == pytest.approx(0.4e-3)  # 16
    assert found["latency"] == pytest.approx(9e8 * 800e-9 / (32768 * 100))
    assert gpus.limit(found) == "ALU"


def test_a_hook_takes_its_longest_limit_and_a_launch() -> None:
    pipes = {"ALU": 12.0}
    assert gpus.hook_seconds(TOY, 9e8, 1.152e9, 20.0, pipes) == pytest.approx(2.4e-3 + 3e-6)
    assert gpus.hook_seconds(TOY, 0, 0, 20.0, pipes) == gpus.LAUNCH


def test_packed_arithmetic_has_a_pipe_of_its_own_on_8_0() -> None:
    a100 = gpus.GPUS["A100"]
    found = gpus.seconds_by_limit(a100, 0, 1e9, 3.0, {"FMA": 1.0, "packed": 2.0})
    clocks = 108 * 1.41e9 * 0.9
    assert found["FMA"] == pytest.approx(1e9 / (clocks * 64))
    assert found["packed"] == pytest.approx(2e9 / (clocks * 128))


@pytest.mark.parametrize("gpu", gpus.GPUS.values(), ids=lambda gpu: gpu.name)
def test_more_of_anything_never_takes_less(gpu: object) -> None:
    base = (4e8, 1e8, 20.0, {"ALU": 10.0, "FMA": 4.0}, 1 << 15)
    least = gpus.hook_seconds(gpu, *base)
    for place, more in enumerate((8e8, 4e8, 80.0, {"ALU": 40.0, "FMA": 4.0})):
        changed = [*base]
        changed[place] = more
        assert gpus.hook_seconds(gpu, *changed) >= least
    assert gpus.hook_seconds(gpu, *base[:-1], 1 << 10) > gpus.hook_seconds(gpu, *base)
    assert gpus.hook_seconds(gpu, 8e8, 2e8, *base[2:]) - gpus.LAUNCH == pytest.approx(
        2 * (least - gpus.LAUNCH)
    )


def test_share_of_bandwidth() -> None:
    assert gpus.share_of_bandwidth(TOY, 5e8, 1e-3) == pytest.approx(0.5)
    seconds = gpus.hook_seconds(TOY, 1e12, 1e9, 1.0, {})
    assert gpus.share_of_bandwidth(TOY, 1e12, seconds) == pytest.approx(0.9, rel=1e-4)


@pytest.mark.parametrize("gpu", gpus.GPUS.values(), ids=lambda gpu: gpu.name)
def test_data_sheets_agree_with_the_pipes(gpu: object) -> None:
    # Float32 outside of matrix products, from the data sheets: two operations a lane of FMA.
    flops = {"A100": 19.5e12, "H100": 66.9e12, "H200": 66.9e12, "B200": 75e12}[gpu.name]
    lanes = gpus.MULTIPROCESSORS[gpu.capability].fma_lanes
    assert gpu.multiprocessors * gpu.clock * lanes * 2 == pytest.approx(flops, rel=0.02)
    assert gpu.target == "sm_{}{}".format(*gpu.capability)

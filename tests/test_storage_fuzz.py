"""Whatever is in a file, reading it ends soon: in a profile that can be used or an FmstatsError."""

from __future__ import annotations

import copy
import json
import random
import signal
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from profile_files import layer_of, profile_of, seal, some_profile

from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.profiles.summary import describe_run
from fmstats.statistic.bins import Bins
from fmstats.statistic.measures import Measures
from fmstats.storage import load, save

SECONDS = 5  # for one input; a good one takes some milliseconds
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, "", "I64", "F64", "\ud800"),
    *([], {}, [[]], [0, 0], [0, 80], [-1, 79], {"schema": 1}, "../../etc/passwd", "x" * 5000),
)
WORDS = (0, 1, -1, 2**63 - 1, -(2**63), 2**62, 0x7FF0 << 48, 0x7FF8 << 48, 0xFFF0 << 48, 1 << 52)


def seeds(folder: Path) -> list[bytes]:
    """Good files to begin with."""
    rich = some_profile(
        samples=3, seconds=1.0, started="2026-01-01", ended="2026-01-02", skipped=["a.png"],
        coverage=[{"name": "x", "type": "ReLU", "status": "never fired", "reason": None}],
    )  # fmt: skip
    wide = profile_of({f"layer{i}": layer_of(torch.randn(3, 40) + 1) for i in range(9)})
    measures = Measures.of(("abs", "kurtosis", "histogram"), Bins("channel", 0))
    measured = some_profile(2, measures, samples=2)
    contents = []
    for profile in (rich, rich | some_profile(1, samples=2), wide, measured, Profile({}, {})):
        save(profile, folder / "seed.fmstats")
        contents.append((folder / "seed.fmstats").read_bytes())
    return contents


def split(content: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: Any, data: bytes) -> bytes:
    """With the checksum that fits, where there is room for one: what damage leaves has none."""
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    texts = header.get("__metadata__") if isinstance(header, dict) else None
    sum_ = texts.get("sha256") if isinstance(texts, dict) else None
    return seal(content) if isinstance(sum_, str) and len(sum_) == 64 else content


def random_bytes(random: random.Random, good: list[bytes]) -> bytes:
    length = random.choice((0, 1, 7, 8, 9, 64, 2000))
    content = random.randbytes(length)
    if random.random() < 0.5:  # a header as long as it says
        content = len(content).to_bytes(8, "little") + content
    return content


def flipped(random: random.Random, good: list[bytes]) -> bytes:
    content = bytearray(random.choice(good))
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    return bytes(content)


def truncated(random: random.Random, good: list[bytes]) -> bytes:
    content = random.choice(good)
    return content[: random.randrange(len(content))] + bytes(random.choice((0, 0, 1, 8, 800)))


def moved(random: random.Random, good: list[bytes]) -> bytes:
    """A piece cut out, doubled, or put in from another file."""
    content, other = random.choice(good), random.choice(good)
    a, b = sorted(random.randrange(len(content)) for _ in range(2))
    c, d = sorted(random.randrange(len(other)) for _ in range(2))
    piece = random.choice((b"", content[a:b] * 2, other[c:d], random.randbytes(b - a)))
    return content[:a] + piece + content[b:]


def spliced(random: random.Random, good: list[bytes]) -> bytes:
    """The header of one file before the data of another, under a length that may be wrong."""
    (header, _), (_, data) = split(random.choice(good)), split(random.choice(good))
    content = join(header, data)
    if random.random() < 0.5:
        lengths = (0, 1, 2**31, 2**63, 2**64 - 1, len(content), len(content) - 8)
        content = random.choice(lengths).to_bytes(8, "little") + content[8:]
    return content


def other_words(random: random.Random, good: list[bytes]) -> bytes:
    header, data = split(random.choice(good))
    words = bytearray(data)
    for _ in range(random.choice((1, 2, 5)) if words else 0):
        at = 8 * random.randrange(len(words) // 8)
        word = random.choice((*WORDS, random.getrandbits(64)))
        words[at : at + 8] = (word % 2**64).to_bytes(8, "little")
    return join(header, bytes(words))


def other_json(random: random.Random, good: list[bytes]) -> bytes:
    """Values of the header, or of the document inside it, replaced, renamed, removed, doubled."""
    header, data = split(random.choice(good))
    text = header["__metadata__"]["fmstats"]
    document = json.loads(text)
    for _ in range(random.choice((1, 1, 2, 4))):
        change_json(random, header if random.random() < 0.3 else document)
    if header.get("__metadata__") == {"fmstats": text}:
        header["__metadata__"]["fmstats"] = json.dumps(document)
    return join(header, data)


def change_json(random: random.Random, value: Any) -> None:
    """Change one place inside a dict or a list, at any depth."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and random.random() < 0.8:
            value = value[key]
            continue
        break
    action = random.randrange(4)
    if action == 0:
        del value[key]
    elif action == 1 and isinstance(value, list):
        value.append(copy.deepcopy(value[key]))
    elif action == 1:
        value[random.choice(("x", "schema", "name", "samples"))] = copy.deepcopy(value[key])
    else:
        value[key] = copy.deepcopy(random.choice(NASTY))


MUTATORS: tuple[Callable[[random.Random, list[bytes]], bytes], ...] = (
    *(random_bytes, flipped, truncated, moved, spliced),
    *(other_words, other_words, other_json, other_json, other_json),
)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(signal: int, frame: FrameType | None) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def use(profile: Profile) -> None:
    """What the commands do with a profile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of sums that overflow
        describe_run(profile)
        profile.merge(profile)
        profile.merge(some_profile(), missing="drop")


def read_once(file: Path, used: bool) -> str:
    """Read a file and use what is in it; "accepted" or why it was refused."""
    try:
        with time_limit(SECONDS):
            profile = load(file)
    except FmstatsError as error:
        return str(error)
    with time_limit(SECONDS):
        try:
            if used:
                use(profile)
        except FmstatsError as error:
            if "merge" not in str(error):  # which odd profiles need not be able to
                raise AssertionError("a profile that was read cannot be used") from error
    return "accepted"


def read_many(folder: Path, inputs: int, seed: int, used: float = 1.0) -> Counter[str]:
    """Read mutated files, and use a share of what can be read; how many of each kind could be."""
    chance, good, file = random.Random(seed), seeds(folder), folder / "p.fmstats"
    seen: Counter[str] = Counter()
    with file.open("wb", buffering=0) as opened:  # closing and opening it costs more than reading
        for number in range(inputs):
            mutate = chance.choice(MUTATORS)
            opened.seek(0)
            opened.write(mutate(chance, good))
            opened.truncate()
            try:
                outcome = read_once(file, chance.random() < used)
            except BaseException as error:
                said = f"input {number} of seed {seed}, in {file}: {error!r}"
                raise AssertionError(said) from error
            assert outcome == "accepted" or outcome.startswith("cannot read profile"), outcome
            seen[f"{mutate.__name__}: {'accepted' if outcome == 'accepted' else 'refused'}"] += 1
    return seen


def test_fuzzed_files(tmp_path: Path) -> None:
    seen = read_many(tmp_path, 800, seed=0)
    assert seen["other_json: accepted"] > 20  # what is only odd is not refused
    for mutate in MUTATORS:
        assert seen[f"{mutate.__name__}: refused"] > 20, seen


@pytest.mark.long
def test_very_many_fuzzed_files(tmp_path: Path) -> None:
    began = time.perf_counter()
    seen = read_many(tmp_path, 120_000, seed=1, used=0.02)
    print(f"\n{sum(seen.values())} inputs in {time.perf_counter() - began:.0f} s")
    print("\n".join(f"{count:7} {kind}" for kind, count in sorted(seen.items())))

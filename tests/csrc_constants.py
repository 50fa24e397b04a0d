"""Numbers that the C++ and CUDA sources define, for tests that work out what follows from them."""

from __future__ import annotations

import re
from pathlib import Path

CSRC = Path(__file__).parent.parent / "csrc"


def constant(file: str, name: str) -> float:
    """A number that a C++ file defines."""
    found = re.search(rf"constexpr \w+ {name} = ([\d.]+);", (CSRC / file).read_text())
    assert found, (file, name)
    return float(found[1])


SAMPLES = int(constant("parts.h", "kSamples"))

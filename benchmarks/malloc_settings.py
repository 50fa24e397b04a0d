"""Settings of malloc under which models are timed, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

# "default" gives large tensors back to the system at once, so that a forward pass pays for the page
# faults of fresh memory and anything beside it looks cheap. "kept" keeps them: the bare model is
# faster, and overhead shows as it is.
MALLOC: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "kept": {
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
        "MALLOC_TOP_PAD_": str(1 << 28),
    },
}


def ask_child(script: str, malloc: str, argv: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that a script prints as JSON in a process with these settings.

    Args:
        script: the file of a benchmark, which takes `--child`.
        malloc: one of `MALLOC`; it is read once, when a process begins.
        argv: other options of the script.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, script, *argv, "--child"],
        env=inherited | MALLOC[malloc],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    # Whatever a rival prints comes before the last line.
    rows: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [{"malloc": malloc, **row} for row in rows]

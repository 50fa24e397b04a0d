"""Hold what the parts of gpu_check.py share: where they run, and what they found.

A check that fails is noted and the next one runs. What was found is written to a file after every
check, so that a part that dies or hangs leaves what it had.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fmstats.backends import Backend

OUTCOMES = PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
LONGEST = 2000  # characters of a failure that are kept


class Skipped(Exception):  # noqa: N818 (not an error)
    """Is raised in a check that cannot run here; its text says what is missing."""


@dataclass(frozen=True)
class Setup:
    """Says where a part runs.

    Attributes:
        backend: what is checked.
        device: whose tensors it is handed.
        quick: whether to do little.
    """

    backend: Backend
    device: torch.device
    quick: bool = False

    @property
    def on_gpu(self) -> bool:
        """Return whether the device is one that torch.cuda handles."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all that it was asked for."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@dataclass
class Report:
    """Holds what a part found.

    Attributes:
        part: its name.
        checks: what was checked, in order: name, outcome and a line of detail each.
        figures: what was measured.
        path: of the file that it is written to as it grows, if any.
    """

    part: str
    checks: list[dict[str, str]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None

    def check(self, name: str, do: Callable[[], object]) -> bool:
        """Run a check: it passes if it raises nothing; what it returns is its detail, if a text."""
        started = time.perf_counter()
        try:
            found = do()
        except Skipped as why:
            return self.note(name, SKIPPED, str(why))
        except Exception as error:
            text = "".join(traceback.format_exception_only(error)).strip()
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            return self.note(name, FAILED, f"{text[:LONGEST]} ({place})")
        seconds = time.perf_counter() - started
        return self.note(name, PASSED, found if isinstance(found, str) else f"{seconds:.1f} s")

    def note(self, name: str, outcome: str, detail: str) -> bool:
        """Note an outcome and print it; return False if it is a failure."""
        self.checks.append({"name": name, "outcome": outcome, "detail": detail})
        print(f"  {outcome:<8} {name}: {detail}", flush=True)
        self.save()
        return outcome != FAILED

    def count(self, outcome: str) -> int:
        """Return how many checks ended so."""
        return sum(check["outcome"] == outcome for check in self.checks)

    def save(self) -> None:
        """Write what there is, whole or not at all."""
        if self.path is not None:
            write_whole(self.path, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {"part": self.part, "checks": self.checks, "figures": self.figures}

    @classmethod
    def read(cls, part: str, path: Path) -> Report:
        """Return what a part wrote, or a report without checks if it wrote nothing."""
        try:
            found: Mapping[str, Any] = json.loads(path.read_text())
        except OSError:
            return cls(part)
        return cls(part, list(found["checks"]), dict(found["figures"]))


def write_whole(path: Path, content: object) -> None:
    """Write JSON so that a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(beside, path)

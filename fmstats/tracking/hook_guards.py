"""`hook_guards` have Dynamo look at hooks while anything is tracked."""

from __future__ import annotations

import sys
import threading
from typing import Any

import torch

from fmstats.graph_ops.lowering import wait_no_more


class _HookGuards:
    """These guards have Dynamo look at hooks while anything is tracked.

    By default it does not when it asks whether a graph still holds for a module: another instance
    of a class would run the graph of one that has no hooks, without its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trackers = 0
        self._before: bool | None = None  # what was configured, once that has been changed

    def begin(self) -> None:
        """Count a tracker that begins."""
        with self._lock:
            self._trackers += 1
            if "torch._dynamo" in sys.modules:
                torch.compiler.reset()  # graphs of before, which hold without looking
                self._look()
            elif self not in sys.meta_path:
                sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Count a tracker off that has ended."""
        with self._lock:
            self._trackers -= 1
            if self._trackers == 0:
                wait_no_more()
            if self._trackers == 0 and self._before is not None:
                self._configure(self._before)
                self._before = None

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Import nothing, but note that Dynamo is imported: before the first graph is made.

        Importing it at once would take seconds that most programs need not wait.
        """
        if name == "torch._dynamo.guards":
            sys.meta_path.remove(self)
            if self._trackers:
                self._look()

    def _look(self) -> None:
        before = self._configure(False)
        if self._before is None:
            self._before = before

    @staticmethod
    def _configure(skip: bool) -> bool:
        """Set Dynamo's option; return what it was."""
        config: Any = sys.modules["torch._dynamo.config"]
        before: bool = config.skip_nnmodule_hook_guards
        config.skip_nnmodule_hook_guards = skip
        return before


hook_guards = _HookGuards()

"""Stop a run between two batches on Ctrl-C or SIGTERM.

While data are read, a signal ends the run at once. While a batch runs, the signal waits for the
end of the batch, and a second one interrupts the model.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from fmstats.profiles.profile import Profile
from fmstats.runs.account import describe_done


class RunInterrupted(KeyboardInterrupt):
    """Reports that a signal stopped a run before its end.

    Attributes:
        profile: the statistics so far, of whole batches only; None if the device has failed.
        checkpoint: the file that it was written to, from which the same call resumes; or None.

    Examples:
        >>> import fmstats, torch
        >>> def batches():
        ...     yield torch.ones(2, 3)
        ...     raise KeyboardInterrupt  # as Ctrl-C does
        >>> try:
        ...     model = torch.nn.Sequential(torch.nn.ReLU())
        ...     fmstats.profile(model, batches(), progress=False)
        ... except fmstats.RunInterrupted as stop:
        ...     print(stop.profile.metadata["batches"])
        1
    """

    def __init__(self, profile: Profile | None, checkpoint: Path | None) -> None:
        self.profile, self.checkpoint = profile, checkpoint
        done = "0 batches" if profile is None else describe_done(profile.metadata)
        after = "there is no checkpoint to resume from"
        if checkpoint is not None:
            after = f"{str(checkpoint)!r} holds what was measured: the same run again resumes it"
        super().__init__(f"interrupted after {done}; {after}")


class Interrupts:
    """Takes SIGINT and SIGTERM over, where the process leaves them to their defaults.

    Raises:
        KeyboardInterrupt: within its context, when a signal came.
    """

    _DEFAULTS = ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))

    def __init__(self) -> None:
        self._before: list[tuple[signal.Signals, object]] = []
        self._held = self._breakable = self._signalled = False

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # No other may set handlers.
            for number, default in self._DEFAULTS:
                if signal.getsignal(number) is default:
                    signal.signal(number, self._handle)
                    self._before.append((number, default))
        return self

    def __exit__(self, *_: object) -> None:
        for number, default in self._before:
            signal.signal(number, default)  # type: ignore[arg-type]
        self._before.clear()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let signals wait for the end of this context."""
        self._held = True
        yield  # An error on its way out says more than a signal that waits.
        self._held = False
        if self._signalled:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def breakable(self) -> Iterator[None]:
        """Let the second signal end this context at once."""
        self._breakable = True
        try:
            yield
        finally:
            self._breakable = False

    def stop(self) -> None:
        """Ignore signals from now on, so that they do not disturb the last writes."""
        self._held, self._breakable = True, False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self._signalled = self._signalled, True
        if not self._held or (again and self._breakable):
            raise KeyboardInterrupt

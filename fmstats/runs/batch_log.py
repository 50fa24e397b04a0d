"""Log the batches that a run has read, as one digest of all of them."""

from __future__ import annotations

from fmstats.runs.code import fingerprint_code
from fmstats.runs.fingerprints import Fingerprints, join
from fmstats.sources.batches import ModelInput


class BatchLog:
    """Keeps a digest of the batches read so far, which depends on their content and order.

    Attributes:
        seen: how many were read.
        unknown: what in them has no fingerprint.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.unknown: list[str] = []
        self._digest = b""

    @property
    def digest(self) -> str:
        """Return the digest of all batches so far, as hexadecimal text."""
        return self._digest.hex()

    def add(self, inputs: ModelInput | None) -> None:
        """Add the next batch; None stands for one that could not be read."""
        prints = Fingerprints(fingerprint_code)
        found = b"unread"
        if inputs is not None:
            found = prints.of([inputs.args, inputs.kwargs], "a batch")
        self.seen += 1
        self._digest = join(self._digest, found)
        self.unknown = list(dict.fromkeys([*self.unknown, *prints.unknown]))

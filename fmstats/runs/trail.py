"""What tells the batches that a run has gone through: a digest of them all, one after the other."""

from __future__ import annotations

from fmstats.runs.code import fingerprint_code
from fmstats.runs.fingerprints import Fingerprints, join
from fmstats.sources.batches import ModelInput


class Trail:
    """The batches gone through so far.

    Attributes:
        seen: how many.
        unknown: what in them could not be told from others.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.unknown: list[str] = []
        self._digest = b""

    @property
    def digest(self) -> str:
        """Of all of them, in their order."""
        return self._digest.hex()

    def add(self, inputs: ModelInput | None) -> None:
        """Go on to the next one; None: one that could not be read."""
        prints = Fingerprints(fingerprint_code)
        found = b"unread"
        if inputs is not None:
            found = prints.of([inputs.args, inputs.kwargs], "a batch")
        self.seen += 1
        self._digest = join(self._digest, found)
        self.unknown = list(dict.fromkeys([*self.unknown, *prints.unknown]))

"""The checksum of a profile file is over all its bytes, its own taken as zeros.

It finds damage. It is no signature: whoever changes a file can change its checksum, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from fmstats.statistic.distribution import Array

KEY = "sha256"  # of the text among the safetensors metadata that is the checksum
BLANK = "0" * 64


def checksum(head: bytes, rows: Iterable[Array]) -> str:
    """Return the checksum of a file.

    Args:
        head: what stands before the data, with `BLANK` for the checksum.
        rows: the data in the order of the file.
    """
    digest = hashlib.sha256(head)
    for row in rows:
        digest.update(row.data)
    return digest.hexdigest()


def blank(head: bytes, found: str) -> bytes:
    """Return `head` as it was before its checksum `found` was put in."""
    return head.replace(found.encode(), BLANK.encode(), 1)

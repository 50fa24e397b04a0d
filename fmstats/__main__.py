"""`python -m fmstats`, the same as the command `fmstats`."""

from __future__ import annotations

import sys

from fmstats.cli import main

if __name__ == "__main__":
    sys.exit(main())

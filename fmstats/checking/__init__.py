"""Check a model every night: profile it, compare, diagnose, write files, and decide.

`request` reads what is asked before anything runs, `nightly` carries it out, `outputs` writes the
files, `result` holds what was found, and `summary` says it in about ten lines.
"""

from __future__ import annotations

from fmstats.checking.nightly import CheckError, check
from fmstats.checking.request import CheckRequest
from fmstats.checking.result import CheckResult
from fmstats.checking.summary import summarise

__all__ = ["CheckError", "CheckRequest", "CheckResult", "check", "summarise"]

"""Runs on other engines: each needs a package of its own, and of fmstats the public API alone."""

from __future__ import annotations

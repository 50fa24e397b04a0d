"""Integrate with other frameworks; each module needs a package of its own.

Of fmstats they use the public API and, so that nothing is written twice, `fmstats.errors` and
`fmstats.models.selection`.

Importing this imports none of them. What some of them share: `intervals`, `readings`.
"""

from __future__ import annotations

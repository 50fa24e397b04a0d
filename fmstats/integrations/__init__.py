"""Other people's frameworks: each module needs a package of its own, of fmstats the public API.

Importing this imports none of them. What some of them share: `packing`, `intervals`, `readings`.
"""

from __future__ import annotations

"""Draw feature maps and profiles as figures of matplotlib.

A figure is returned and never shown; it belongs to no global state and needs no screen:
`figure.savefig("maps.png")`. Importing this package does not import matplotlib.
"""

from __future__ import annotations

from fmstats.pictures.best_images import top_images
from fmstats.pictures.depth import plot_profile
from fmstats.pictures.gallery import TopImage, TopImages
from fmstats.pictures.grid import visualize
from fmstats.pictures.hierarchy import visualize_hierarchy
from fmstats.pictures.overlays import overlay

__all__ = [
    "TopImage",
    "TopImages",
    "overlay",
    "plot_profile",
    "top_images",
    "visualize",
    "visualize_hierarchy",
]

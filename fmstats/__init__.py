"""Exact per-channel statistics of every feature map of an unmodified PyTorch model.

with fmstats.track(model) as tracker:
    for batch in data:
        model(batch)
print(tracker.stats())
"""

from fmstats._version import __version__
from fmstats.analysis import Analysis, analyze
from fmstats.backends.one_tensor import channel_stats
from fmstats.calibration import QParams
from fmstats.checking import CheckError, CheckResult, check
from fmstats.diagnosis import Diagnosis, Finding, diagnose
from fmstats.drift import Comparison
from fmstats.errors import FmstatsError
from fmstats.histories import History
from fmstats.parameters import ParameterTracker, track_parameters
from fmstats.pictures import (
    TopImage,
    TopImages,
    overlay,
    plot_profile,
    top_images,
    visualize,
    visualize_hierarchy,
)
from fmstats.profiles.coverage import Coverage
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.runs import RunInterrupted, profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.storage import load, merge_files
from fmstats.tracking.nonfinite import NonFiniteError, NonFiniteEvent
from fmstats.tracking.taps import tap
from fmstats.tracking.track import track
from fmstats.tracking.tracker import Tracker

__all__ = [
    "Analysis",
    "ChannelStats",
    "CheckError",
    "CheckResult",
    "Comparison",
    "Coverage",
    "Diagnosis",
    "Finding",
    "FmstatsError",
    "History",
    "LayerProfile",
    "NonFiniteError",
    "NonFiniteEvent",
    "ParameterTracker",
    "Profile",
    "QParams",
    "RunInterrupted",
    "TopImage",
    "TopImages",
    "Tracker",
    "__version__",
    "analyze",
    "channel_stats",
    "check",
    "diagnose",
    "load",
    "merge_files",
    "overlay",
    "plot_profile",
    "profile",
    "tap",
    "top_images",
    "track",
    "track_parameters",
    "visualize",
    "visualize_hierarchy",
]

"""The version of the package, as its metadata has it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fmstats")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0+unknown"

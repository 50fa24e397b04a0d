"""This package has profiles: what was measured of a model, how it merges, what is shown."""

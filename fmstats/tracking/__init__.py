"""This package has `track`, whose hooks measure the layers of a model while it runs."""

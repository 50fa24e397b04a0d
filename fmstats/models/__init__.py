"""This package knows what there is to know of a model: modules, outputs, channel dims."""

"""What fmstats has to know of a model: its modules, its outputs, where channels are."""

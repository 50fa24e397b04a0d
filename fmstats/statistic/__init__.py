"""This package defines the statistic: its fields, the state of a channel, how states merge."""

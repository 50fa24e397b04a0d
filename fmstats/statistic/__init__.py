"""The statistic: its fields, the state of a channel, and how states merge."""

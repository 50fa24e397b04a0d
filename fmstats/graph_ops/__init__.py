"""The operations by which compiled graphs measure, without Python where the graph runs."""

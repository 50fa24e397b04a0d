"""What Inductor makes of models that are measured, for a GPU that is not there."""

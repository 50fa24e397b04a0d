"""`track`: hooks that measure the layers of a model while it runs."""

"""The composition root: builds a running system from a pipeline file."""

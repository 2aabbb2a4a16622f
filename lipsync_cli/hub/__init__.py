"""Weights: which models there are, where they come from, and proof that a file is the right one."""

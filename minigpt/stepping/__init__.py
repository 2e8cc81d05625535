"""Stepping through a model: where it stops, what can be read there, and pdb on top of both."""

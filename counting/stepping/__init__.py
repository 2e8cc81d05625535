"""Stepping through a program by what it counts: stops, figures, operations, pdb on top."""

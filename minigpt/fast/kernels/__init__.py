"""Kernels compiled for this processor, each headed by the NumPy line that it must equal."""

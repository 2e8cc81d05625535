"""The panels of the page about a run: a file for each."""

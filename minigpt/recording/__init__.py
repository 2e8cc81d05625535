"""Recordings: what a run did, line by line, in a file that outlives it."""

VERSION = 1
"""The number that the first line of a recording carries as "recording".

It grows when a field goes, or changes what it means; a field more leaves it as it is.
"""

"""The number that every JSON of a command carries: "schema".

It grows when a field goes, or changes what it means; a field more leaves it as it is.
"""

SCHEMA = 1

"""How the figures of a row are known, by the name of its operation."""

from counting.calls import row_name
from counting.costs import COSTS, REGISTERED, how_known

DRAWN = "random."  # before the names of rows of random numbers

BY_NAME = {row_name(function): how_known(function) for function in COSTS}


def known_by(operation: str) -> str:
    """As `how_known`, of a row's name; "bytes alone" of random numbers, whose cost nobody counts.

    A composite is its parts, which are executed: what in it is not has rows of its own.
    """
    if operation.startswith(DRAWN):
        return "bytes alone"
    if any(one.row == operation for one in REGISTERED.values()):
        return "registered"
    return BY_NAME.get(operation, "executed")

"""What the processor really executed: every instruction of a function, stepped one by one."""

from counting.machine.executed import executed
from counting.machine.ran import COMPILED, Line, Moved, Ran
from counting.machine.unavailable import Unavailable

__all__ = ["COMPILED", "Line", "Moved", "Ran", "Unavailable", "executed"]

"""Where a process cannot be stepped."""


class Unavailable(RuntimeError):
    """The processor cannot be stepped here: one line that says why, and the way out."""

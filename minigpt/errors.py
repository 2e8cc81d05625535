"""What is wrong with an input, in one line that names the thing and the way out."""


class InputError(ValueError):
    """Input that cannot be used. The command prints its text and exits with status 2."""

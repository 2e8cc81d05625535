"""What is wrong with an input, in one line that names the thing and the way out."""

from collections.abc import Iterable, Mapping

from minigpt.harmless import one_line


class InputError(ValueError):
    """Input that cannot be used. The command prints its text and exits with status 2.

    Args:
        text: of any length, with whatever others wrote; kept as `one_line` of it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(one_line(text))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, or "" if none is near.

    A known name that begins with the unknown one is nearer than any that is spelled like it.
    """
    from difflib import get_close_matches

    folded = {one.casefold(): one for one in known}
    said = name.casefold().replace(" ", "-")
    begun = sorted((one for one in folded if said and one.startswith(said)), key=len)
    near = begun or get_close_matches(said, folded, n=1)
    found = folded[near[0]] if near else name
    return f"; did you mean {found}?" if found != name else ""


def without_effect(options: Mapping[str, object], beside: str) -> None:
    """Raises InputError if an option was given that does nothing beside another one.

    Args:
        options: values by option; None and False stand for an option that was not given.
        beside: the other option.
    """
    for option, value in options.items():
        if value is not None and value is not False:
            raise InputError(f"{option} would do nothing beside {beside}: leave one of them out")

"""The `cache` command: what is kept on this machine, how much of it, and whether it is whole."""

import json
import shutil
from datetime import datetime

from rich.filesize import decimal

from minigpt.errors import InputError
from minigpt.fast.packing import same, whole
from minigpt.harmless import harmless
from minigpt.notes import saying
from minigpt.storage.files import cache_folder
from minigpt.storage.kept import KERNELS, LIMIT, PACKED, Kept, kept
from minigpt.storage.private import PrivateFolder, unusable

DAMAGED = "damaged, removed"


def run(check: bool = False, clear: bool = False) -> int:
    """Shows, checks or clears the cache; gives the exit status, 1 if something was damaged.

    Raises:
        InputError: the cache cannot be read or cleared, or others may write to it.
    """
    if check and clear:
        raise InputError("--check and --clear: one of them, what is cleared cannot be checked")
    try:
        with saying(not clear):  # of what goes nobody needs to know more
            folder, found = cache_folder(), kept()
        states = [_state(one) for one in found] if check else [""] * len(found)
        for one, state in zip(found, states, strict=True):
            if state == DAMAGED:
                one.remove()
        if clear and folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise InputError(unusable(error)) from None
    # Outside, for what cannot be printed says nothing of the cache.
    if clear:
        print(f"{folder}: {decimal(sum(one.nbytes for one in found))} removed")
    else:
        _show(found, states)
    return int(DAMAGED in states)


def _show(found: list[Kept], states: list[str]) -> None:
    bounded = sum(one.nbytes for one in found if one.folder in (PACKED, KERNELS))
    print(
        f"{cache_folder()}: {decimal(sum(one.nbytes for one in found))}; packed weights and "
        f"kernels {decimal(bounded)} of at most {decimal(LIMIT)}"
    )
    rows = [(one.what, decimal(one.nbytes), _date(one.used)) for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for one, (what, size, used), state in zip(found, rows, states, strict=True):
        line = f"{what:<{widths[0]}}  {size:>{widths[1]}}  {used}  for {one.of}"
        print(harmless(line).replace("\n", "␊") + (f": {state}" * bool(state)))


def _date(seconds: float) -> str:
    """A time of a file, which may be one that no calendar has."""
    try:
        return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{'at no date':16}"


def _state(one: Kept) -> str:
    """What a complete look at something finds; "" where there is nothing to compare it with."""
    if one.folder == KERNELS:
        with PrivateFolder(KERNELS) as folder:
            return "whole" if folder.read(one.name) is not None else DAMAGED
    if one.folder != PACKED:
        return ""
    with PrivateFolder(PACKED) as folder:
        text = folder.read(f"{one.name}.json")
        if text is None:
            return DAMAGED
        record = json.loads(text)
        try:
            with folder.open(f"{one.name}.safetensors") as stream:
                if not whole(stream, record["parts"]):
                    return DAMAGED
        except OSError:
            return DAMAGED
    models = same(record["sources"])
    if False in models.values():
        return "its model has changed since, packed anew at the next start"
    return "whole" if all(models.values()) else "whole, its model is not there"

"""A pack of weights in the cache: whatever is done to it, the model says what it said."""

import os
from functools import cache
from pathlib import Path
from random import Random

from fuzzing.mutators import octets
from fuzzing.tiny import model, speak
from minigpt.storage.files import cache_folder


def draw(rng: Random) -> bytes:
    return str(rng.getrandbits(64)).encode()


@cache
def packed(folder: Path) -> tuple[dict[str, bytes], list[int]]:
    from minigpt.fast import store

    store.SMALL = store.READ = 0
    said = speak(model(folder), dtype="int8")
    packs = cache_folder() / "packed"
    return {p.name: p.read_bytes() for p in packs.iterdir() if p.is_file()}, said


def run(made: bytes, folder: Path) -> None:
    there, said = packed(folder)
    rng = Random(int(made))
    packs = cache_folder() / "packed"
    for name, data in there.items():
        (packs / name).write_bytes(data)
    name = rng.choice(sorted(there))
    what = rng.random()
    (packs / name).unlink()
    if what < 0.1:
        os.mkfifo(packs / name, 0o600)
    elif what < 0.2:
        (packs / name).symlink_to(rng.choice(("/dev/zero", "/nowhere", "/etc/passwd")))
    elif what < 0.9:
        (packs / name).write_bytes(octets(rng, there[name]))
        (packs / name).chmod(rng.choice((0o600, 0o600, 0o666)))
    if speak(model(folder), dtype="int8") != said:
        raise AssertionError("other tokens than before")
    for left in packs.iterdir():
        if left.is_dir():
            raise AssertionError(f"{left} was left")
        left.unlink()

"""Where files that can be made again are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache folder for this program: in $XDG_CACHE_HOME, or ~/.cache without it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigpt"

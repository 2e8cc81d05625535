"""Which version of this package runs."""

import tomllib
from importlib import metadata
from pathlib import Path


def version() -> str:
    """The version that was installed, or that of a clone which is run as it lies there."""
    try:
        return metadata.version("minigpt-counting")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])

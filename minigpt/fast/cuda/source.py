"""The kernels' source, and what it says of jobs: Python reads structures and numbers there."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

HEAD = ("kind", "meets", "ahead")  # of every structure of a job
FILES = ("gpu.cuh", "job.cuh", "product.cuh", "attention.cuh", "rows.cuh", "replay.cu", "prompt.cu")


class Field(NamedTuple):
    """A word of a job.

    Attributes:
        kind: "i64", "double", or a type that ends with * for an address.
    """

    name: str
    kind: str


@cache
def source() -> str:
    """All kernels as one text, as NVRTC and nvcc take it."""
    folder = Path(__file__).parent
    parts = (f'#line 1 "{file}"\n{(folder / file).read_text(encoding="utf-8")}' for file in FILES)
    return "\n".join(parts)


@cache
def structures() -> dict[str, list[Field]]:
    """The words of each kind of job, in order, by the name of its structure."""
    found = {}
    for name, body in re.findall(r"^struct (\w+) \{\s*\n(.*?)^\};", _code(), re.M | re.S):
        fields = []
        for declared in body.split(";"):
            if match := re.fullmatch(r"\s*((?:const )?(?:unsigned )?\w+)(.*)", declared, re.S):
                fields += [_field(match[1], each) for each in match[2].split(",")]
        if tuple(field.name for field in fields[:3]) == HEAD:
            found[name] = fields
    return found


@cache
def numbers() -> dict[str, int]:
    """Names of `enum`s and whole constants, and their values."""
    found: dict[str, int] = {}
    for body in re.findall(r"^enum \{(.*?)\}", _code(), re.M | re.S):
        found |= {name.strip(): i for i, name in enumerate(body.split(","))}
    found |= {n: int(v) for n, v in re.findall(r"^const int (\w+) = (\d+);", _code(), re.M)}
    found |= {n: int(v) for n, v in re.findall(r"^#define (\w+) (\d+)\b", _code(), re.M)}
    return found


def _code() -> str:
    return re.sub(r"//.*", "", source())


def _field(kind: str, declared: str) -> Field:
    name = declared.strip()
    return Field(name.lstrip("* "), f"{kind}*" if name.startswith("*") else kind)

"""What the path of an operation says: the layer, and the part of the model."""

import re


def layer_of(path: str) -> str | None:
    """The layer that a path is in: `h.3` of `h.3.attn.qk`; None outside of all."""
    inside = re.match(r".*?\.\d{1,9}(?=\.|$)", path)  # more digits, in a scope of a user, are none
    return inside[0] if inside else None


def layer_number(path: str) -> int | None:
    """The number of the layer that a path is in; None outside of all."""
    inside = layer_of(path)
    return None if inside is None else int(inside.rpartition(".")[2])


def layer(path: str) -> str:
    """The layer that a path is in, or the path itself outside of any."""
    return layer_of(path) or path


def component(path: str) -> str:
    """The part of the model, whichever layer or expert it is in: `attn.qk` of `h.3.attn.qk`."""
    inside = re.sub(r"^.*?\.\d+\.?", "", path)
    return re.sub(r"\.\d+", "", inside) or "residual"

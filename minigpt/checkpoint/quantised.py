"""Quantised checkpoints: those that are made whole when they are read, and what is said of others.

Two kinds of blocks are known, each of numbers of few bits times the scale of their block. MXFP4
(Open Compute Project, 2023) as gpt-oss has it: `X_blocks` (E, out, in / 32, 16) with two numbers a
byte, the lower half first, and `X_scales` (E, out, in / 32), powers of two; X is (E, in, out). FP8
as DeepSeek V3 has it: `X` in 8 bits, and `X_scale_inv` for blocks of `weight_block_size`, cut off
where the matrix ends.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

import ml_dtypes
import numpy as np

from minigpt.checkpoint.tensors import FLOATS, Entry, Tensor
from minigpt.errors import InputError

SCALE = re.compile(
    r"""(.+)?( _scale(s|_inv)?
    | \.(scales|qzeros|g_idx|SCB|weight_format|weight_(zero_point|shape|g_idx))
    | \.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..+)
    )""",
    re.VERBOSE,
)
"""Keys of what lies beside quantised weights: their scales, zeros, order, tables."""

_BY_NAME = {  # how keys end, and what method calls its tensors so
    ".weight_scale_inv": "fp8",
    "_blocks": "mxfp4",
    ".qweight": "gptq or awq",
    ".absmax": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "compressed-tensors",
}
_ORIGINAL = "take the model that they were made from, in 16 or 32 bits"
_LET = "let transformers do it, AutoModelForCausalLM.from_pretrained(...{}).save_pretrained(...)"
_WAYS_OUT = {
    "bitsandbytes": _LET.replace("{})", ").dequantize()"),
    "compressed-tensors": _LET.format(
        ", quantization_config=CompressedTensorsConfig(dequantize=True)"
    ),
}
_FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_FP4 = np.concatenate([_FP4, -_FP4])  # by the 4 bits
_BYTES = np.arange(256, dtype=np.uint8)
_FP4_PAIRS = np.stack([_FP4[_BYTES & 15], _FP4[_BYTES >> 4]], axis=1)  # by the byte
_FP8 = _BYTES.view(ml_dtypes.float8_e4m3fn).astype(np.float32)  # by the byte

E = TypeVar("E", bound=Entry)
Unpack = Callable[[np.ndarray, np.ndarray], np.ndarray]  # bytes, scales -> float32


class Quantised(InputError):
    """Weights are quantised, in a way that is not made whole here."""


@dataclass(frozen=True)
class Unpacked(Tensor):
    """A tensor of float32 that is stored as numbers of few bits and scales.

    Attributes:
        unpack: makes it of some rows of both.
        rows: along the first axis that share the scales of one.
    """

    narrow: Tensor
    scales: Tensor
    unpack: Unpack
    rows: int

    @property
    def pieces(self) -> tuple[Tensor, ...]:
        return self.narrow, self.scales

    @property
    def together(self) -> int:
        return self.rows

    def mappable(self, dtype: np.dtype) -> bool:
        return False

    def map(self, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or some of it from a row on that begins a block, unpacked anew."""
        begin, end, _ = rows.indices(self.shape[0])
        scaled = slice(begin // self.rows, -(-end // self.rows))
        return self.unpack(self.narrow.map(rows), self.scales.map(scaled))


def made_whole(found: Iterable[tuple[str, E]], given: Mapping[str, Any]) -> list[tuple[str, E]]:
    """The tensors of a checkpoint, those in blocks as the matrices that they are.

    Args:
        given: the values of the config.json.

    Raises:
        InputError: scales do not fit their blocks.
    """
    found = list(found)
    by_key, block = dict(found), _block(given)
    whole, scales = list[tuple[str, E]](), set[str]()
    for key, entry in found:
        name = key.removesuffix("_blocks")
        scale = f"{key}_scale_inv" if name == key else f"{name}_scales"
        beside = by_key.get(scale)
        mxfp4 = beside and name != key and entry.code == beside.code == "U8"
        fp8 = beside and name == key and entry.code == "F8_E4M3" and beside.code in FLOATS
        if beside and (mxfp4 or fp8):
            unpack = _from_mxfp4 if mxfp4 else partial(_from_fp8, block=block)
            shape = (_mxfp4_shape if mxfp4 else partial(_fp8_shape, block=block))(entry, beside)
            if shape is None:
                what = f"{key} {entry.shape} and its scales {beside.shape} do not fit"
                raise InputError(f"{entry.file}: {what}")
            scales.add(scale)
            entry = _unpacked(entry, beside, shape, unpack, 1 if mxfp4 else block[0])
        whole.append((name if mxfp4 else key, entry))
    return [(key, entry) for key, entry in whole if key not in scales]


def _unpacked(entry: E, scales: E, shape: tuple[int, ...], unpack: Unpack, rows: int) -> E:
    whole: Entry = replace(entry, code="F32", shape=shape)
    if isinstance(entry, Tensor) and isinstance(scales, Tensor):
        whole = Unpacked(**vars(whole), narrow=entry, scales=scales, unpack=unpack, rows=rows)
    return cast(E, whole)


def _block(given: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of a block of FP8."""
    config = given.get("quantization_config")
    said = config.get("weight_block_size") if isinstance(config, dict) else None
    match said:
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return rows, columns
    return 128, 128


def _mxfp4_shape(entry: Entry, scales: Entry) -> tuple[int, ...] | None:
    match entry.shape:
        case (experts, out, blocks, 16) if scales.shape == (experts, out, blocks):
            return experts, 32 * blocks, out
    return None


def _fp8_shape(entry: Entry, scales: Entry, block: tuple[int, int]) -> tuple[int, ...] | None:
    match entry.shape:
        case (rows, columns) if scales.shape == (-(-rows // block[0]), -(-columns // block[1])):
            return rows, columns
    return None


def _from_mxfp4(narrow: np.ndarray, scales: np.ndarray) -> np.ndarray:
    experts, out, blocks, _ = narrow.shape
    whole = np.empty((experts, 32 * blocks, out), np.float32)
    for expert, (pairs, powers) in enumerate(zip(narrow, scales, strict=True)):
        numbers = _FP4_PAIRS[pairs].reshape(out, blocks, 32)
        with np.errstate(over="ignore"):  # infinities show in the logits
            scaled = np.ldexp(numbers, powers[..., None].astype(np.int32) - 127)
        whole[expert] = scaled.reshape(out, -1).T
    return whole


def _from_fp8(narrow: np.ndarray, scales: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    whole, (rows, columns) = _FP8[narrow], block
    for i, by_block in enumerate(scales.astype(np.float32)):
        whole[i * rows : (i + 1) * rows] *= np.repeat(by_block, columns)[: narrow.shape[1]]
    return whole


def method(given: Mapping[str, Any], found: Iterable[tuple[str, Entry]]) -> str | None:
    """How weights are quantised, in the words of config.json; None if they are not.

    Tensors decide, for some config.json still tells of a method after weights were made whole.

    Args:
        given: the values of the config.json.
        found: the tensors by their keys.
    """
    config, found = given.get("quantization_config"), list(found)
    said = config.get("quant_method") if isinstance(config, dict) else None
    ends = (end for end in _BY_NAME for key, _ in found if key.endswith(end))
    shown = next(ends, None)
    narrow = any(key.endswith("weight") and entry.code not in FLOATS for key, entry in found)
    if shown or (said and narrow):
        return str(said or _BY_NAME[str(shown)])
    return None


def refusal(how: str) -> str:
    """What is said of weights that are quantised so and not made whole, and the way out."""
    known = "only MXFP4 and FP8 with scales of blocks are made whole"
    return f"the weights are quantised ({how}), and {known}: {_WAYS_OUT.get(how, _ORIGINAL)}"

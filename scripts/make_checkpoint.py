"""Makes a checkpoint of a GPT-2 at its true size with random values, in Hugging Face layout.

    python scripts/make_checkpoint.py gpt2-xl DIR

Text it generates is noise; what it costs is not. Tensors are written one by one.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from minigpt.config import GPT2_SIZES, GPT2Config

END_OF_TEXT = "<|endoftext|>"


def write_tensors(config: GPT2Config, path: Path, dtype: str, seed: int) -> None:
    """All tensors of `config` with normally distributed values, as GPT-2 is initialised."""
    names = {"float32": "F32", "float16": "F16"}
    itemsize, offset, header = np.dtype(dtype).itemsize, 0, {}
    for key, shape in config.shapes().items():
        end = offset + int(np.prod(shape)) * itemsize
        header[key] = {"dtype": names[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    rng = np.random.default_rng(seed)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for key, shape in config.shapes().items():
            values = 0.02 * rng.standard_normal(shape, np.float32)
            if ".ln_" in f".{key}" and key.endswith("weight"):
                values += 1
            values.astype(dtype).tofile(file)
    print(f"{path}: {path.stat().st_size:,} bytes, {config.parameters:,} parameters")


def make_tokenizer(vocab_size: int, merges: Path | None) -> Tokenizer:
    """A byte-level BPE with exactly `vocab_size` tokens.

    With GPT-2's own merges (its vocab.bpe) ids are GPT-2's; without, the 256 bytes come first and
    fillers that no text contains make up the rest.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = [*map(chr, printable), *(chr(256 + i) for i in range(len(others)))]
    pairs: list[tuple[str, str]] = []
    if merges:
        lines = merges.read_text(encoding="utf-8").splitlines()
        pairs = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
    tokens = (symbols + ["".join(pair) for pair in pairs])[: vocab_size - 1]
    tokens += [f"<|filler{i}|>" for i in range(len(tokens), vocab_size - 1)] + [END_OF_TEXT]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [p for p in pairs if "".join(p) in vocabulary]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=GPT2_SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--merges", type=Path, help="GPT-2's vocab.bpe, for its real tokens")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    config = GPT2_SIZES[args.model]
    args.folder.mkdir(parents=True, exist_ok=True)
    sizes = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "eos_token_id")
    values = {"model_type": "gpt2"} | {name: getattr(config, name) for name in sizes}
    (args.folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    tokenizer = make_tokenizer(config.vocab_size, args.merges)
    tokenizer.save(str(args.folder / "tokenizer.json"))
    write_tensors(config, args.folder / "model.safetensors", args.dtype, args.seed)


if __name__ == "__main__":
    main()

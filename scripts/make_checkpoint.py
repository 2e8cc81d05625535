"""Makes a checkpoint of a GPT-2 at its true size with random values, in Hugging Face layout.

    python scripts/make_checkpoint.py gpt2-xl DIR

Text it generates is noise; what it costs is not.
"""

import argparse
import sys
from pathlib import Path

from minigpt.checkpoint.files import SINGLE
from minigpt.checkpoint.synthetic import FILES, write_checkpoint
from minigpt.errors import InputError
from minigpt.models.gpt2_config import GPT2_SIZES
from minigpt.storage.outputs import check_apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=GPT2_SIZES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    parser.add_argument("--merges", type=Path, help="GPT-2's vocab.bpe, for its real tokens")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    config = GPT2_SIZES[args.model]
    try:
        check_apart([args.folder / name for name in FILES], [args.merges] if args.merges else [])
        write_checkpoint(config, args.folder, args.dtype, args.seed, args.merges)
    except InputError as error:
        print(f"make_checkpoint: {error}", file=sys.stderr)
        return 2
    tensors = args.folder / SINGLE
    print(f"{tensors}: {tensors.stat().st_size:,} bytes, {config.parameters:,} parameters")
    return 0


if __name__ == "__main__":
    sys.exit(main())

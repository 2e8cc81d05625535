"""Where a model's files are: in the package, in a folder, or on the Hugging Face hub."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from minigpt.checkpoint.fetch import Fetch, on_hub
from minigpt.checkpoint.files import (
    ADAPTER,
    BESIDE,
    CONFIG,
    INDEX,
    MERGES,
    PICKLE,
    PIECES,
    SINGLE,
    TOKENIZER,
    VOCABULARY,
    Checkpoint,
    check_own,
    filled,
)
from minigpt.checks import shown
from minigpt.errors import InputError
from minigpt.storage.files import reason
from minigpt.storage.outputs import check_apart
from minigpt.storage.reading import document

SHIPPED = "shakespeare"
WEIGHTS = (  # names whose weights are known to be on the hub, or here
    SHIPPED,
    *("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
    *("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"),
    *("meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.1-405B"),
    *("deepseek-ai/DeepSeek-V3", "deepseek-ai/DeepSeek-R1"),
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HUB_NAME = re.compile(r"\w[\w.-]{0,95}(/\w[\w.-]{0,95})?")
_REFUSED = "loading a pickle can run any code; save the model as safetensors"

T = TypeVar("T")


def find(
    model: str, revision: str | None = None, again: bool = False, to: Path | None = None
) -> Checkpoint:
    """The files of `model`; those of a hub name are downloaded unless they are in its cache.

    Args:
        again: look at those in the cache too, and download what is damaged.
        to: a folder that they are to go to, which is looked at before tensors are downloaded.

    Raises:
        InputError: there is no such model, it has no safetensors, the hub cannot be reached, or
            `to` has files of another model.
        OSError: `to` cannot be read.
    """
    fetch = source(model, revision, again)
    config = _fetched(model, CONFIG, fetch)
    tokenizer, merges = _tokenizer(model, fetch)
    beside = {name: file for name in BESIDE if (file := fetch(name))}
    own = {CONFIG, *([TOKENIZER] if merges is None else [VOCABULARY, MERGES]), *beside}
    if to:  # where all tensors are in one file, to ask for it is to download it
        check_own(to, own | {SINGLE})
    names = tensor_files(model, fetch, fetch)
    if to:
        check_own(to, own | {*names, INDEX})
    tensors = {name: part(model, name, fetch(name)) for name in names}
    return Checkpoint(model, config, tokenizer, tensors, merges, beside)


def find_config(model: str) -> Path:
    """The config.json of `model`, where `find` would find it; no other file is asked for.

    Raises:
        InputError: there is no such model, it has none, or the hub cannot be reached.
    """
    return _fetched(model, CONFIG, source(model))


def source(model: str, revision: str | None = None, again: bool = False) -> Fetch:
    """What fetches the files of a model.

    Args:
        again: see `find`.

    Raises:
        InputError: the name is none of a model, or `revision` of one on this machine.
    """
    try:
        found = here(model)
    except OSError as error:  # a folder that may not be read, a name too long
        raise InputError(f"{shown(model)} cannot be read: {reason(error)}") from None
    if found:
        if revision is not None:
            raise InputError(f"{model} is on this machine: only a hub name has revisions")
        return found
    if not _HUB_NAME.fullmatch(model):
        raise InputError(f"{shown(model)} is no file, no folder and no hub name")
    for known in WEIGHTS:
        if model.casefold() == known.rpartition("/")[2].casefold() and model != known:
            raise InputError(f"{shown(model)} is no name of any weights; did you mean {known}?")
    return on_hub(model, revision, again, WEIGHTS)


def here(model: str) -> Fetch | None:
    """What fetches the files of a model that comes with the package, or is a folder or file."""
    if model == SHIPPED:
        package = Path(__file__).parents[1]
        folders = package / "shipped" / SHIPPED, package.parent / "weights" / SHIPPED
        return _in_folder(next(f for f in folders if f.is_dir()))
    path = Path(os.path.expanduser(model))
    if path.suffix.lower() in PICKLES:
        raise InputError(f"{model} is a pickle and refused: {_REFUSED}")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(f"{model} is neither a config.json nor a .safetensors file")
        beside = _in_folder(path.parent)
        return lambda name: path if name == SINGLE else beside(name)
    if model and path.is_dir():
        empty = not any(path.iterdir())
        if not (empty and _HUB_NAME.fullmatch(model)):  # it may be the one to download into
            return _in_folder(path)
    return None


def download(model: str, revision: str | None = None, to: Path | None = None) -> Path:
    """Fetches a model's files ahead of time; gives the folder they are in.

    Those that are in the hub's cache are looked at, and fetched again where they are damaged.

    Raises:
        InputError: as `find`, or `to` cannot be written, or has files of another model.
    """
    if to is None:
        return find(model, revision, again=True).config.parent
    made = not os.path.exists(to)
    try:
        to.mkdir(parents=True, exist_ok=True)  # or fail before the download
        try:
            checkpoint = find(model, revision, again=True, to=to)
        except InputError:
            if made:
                to.rmdir()
            raise
        files = checkpoint.files
        check_apart([to / name for name in files], files.values())
        with filled(to, files) as part:
            for name, file in files.items():
                shutil.copyfile(file, part / name)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {reason(error)}") from None
    return to


def _fetched(model: str, name: str, fetch: Fetch) -> Path:
    file = fetch(name)
    if file is None:
        raise _lacks(model, name, fetch)
    return file


def _lacks(model: str, what: str, fetch: Fetch) -> InputError:
    if adapter := fetch(ADAPTER):
        return InputError(f"{model} is {_adapter(adapter)}: merge it first, and save what comes")
    pickled = f"; its {PICKLE} is refused: {_REFUSED}" if fetch(PICKLE) else ""
    return InputError(f"{model} has no {what}{pickled}")


def _adapter(path: Path) -> str:
    """What an adapter_config.json says of itself."""
    try:
        values = document(path)
        kind, base = values["peft_type"], values["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError):
        return f"an adapter, as its {path.name} says"
    kind = "LoRA" if kind == "LORA" else kind
    return f"an adapter ({kind}) of {base or 'a model that it does not name'}"


def _tokenizer(model: str, fetch: Fetch) -> tuple[Path, Path | None]:
    """The tokenizer.json of a model, or its vocab.json and merges.txt."""
    if whole := fetch(TOKENIZER):
        return whole, None
    vocabulary, merges = fetch(VOCABULARY), fetch(MERGES)
    if vocabulary and merges:
        return vocabulary, merges
    if fetch(PIECES):
        raise InputError(
            f"{model} has no {TOKENIZER}, only a {PIECES} of SentencePiece: let transformers "
            "make the one of the other, AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    what = f"{TOKENIZER}" + (f" and no {MERGES}" if vocabulary else "")
    raise _lacks(model, what, fetch)


def tensor_files(model: str, fetch: Fetch, has: Callable[[str], Any]) -> list[str]:
    """The names of the files of a model's tensors.

    Args:
        has: whether the model has a file, asked of the one that holds all of them.

    Raises:
        InputError: there are none, or the index that names them is broken.
    """
    if has(SINGLE):
        return [SINGLE]
    index = fetch(INDEX)
    if index is None:
        raise _lacks(model, f"{SINGLE} and no {INDEX}", fetch)
    try:
        names = sorted(set(document(index)["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{index} is not a safetensors index: get it again") from None
    if not names:
        raise InputError(f"{index} names no file: get it again")
    for name in names:
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", str(name)):
            raise InputError(
                f"{index} names {shown(name)}, which is not a safetensors file beside it"
            )
    return names


def part(model: str, name: str, found: T | None) -> T:
    """What was found of a file that an index names. Raises InputError where that is None."""
    if found is None:
        raise InputError(f"{model} has no {name}, which {INDEX} asks for")
    return found


def _in_folder(folder: Path) -> Fetch:
    # os.path's are False of a name that no file can have, where Path.is_file raises OSError
    def fetch(name: str) -> Path | None:
        path = folder / name
        if os.path.exists(path) and not os.path.isfile(path):
            raise InputError(f"{path} is no regular file, nor a link to one")
        return path if os.path.isfile(path) else None

    return fetch

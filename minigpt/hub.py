"""Where a model's files are: in the package, in a folder, or on the Hugging Face hub."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import InputError

SHIPPED = "shakespeare"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_REFUSED = "loading a pickle can run any code; save the model as safetensors"

Fetch = Callable[[str], Path | None]  # a file of the model, by name; None where it has no such file


@dataclass(frozen=True)
class Checkpoint:
    """The files of a model."""

    name: str
    config: Path
    tokenizer: Path
    tensors: tuple[Path, ...]


def find(model: str, revision: str | None = None) -> Checkpoint:
    """The files of `model`; those of a hub name are downloaded unless they are in its cache.

    Raises:
        InputError: there is no such model, it has no safetensors, or the hub cannot be reached.
    """
    if model == SHIPPED:
        package = Path(__file__).parent
        folders = package / "shipped" / SHIPPED, package.parent / "weights" / SHIPPED
        return _collect(model, _in_folder(next(f for f in folders if f.is_dir())))
    path = Path(model).expanduser()
    if path.suffix in PICKLES:
        raise InputError(f"{model} is a pickle and refused: {_REFUSED}")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise InputError(f"{model} is not a .safetensors file")
        return _collect(model, _in_folder(path.parent), tensors=(path,))
    if path.is_dir():
        return _collect(model, _in_folder(path))
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", model):
        raise InputError(f"{model} is no file, no folder and no hub name")
    return _collect(model, _on_hub(model, revision))


def download(model: str, revision: str | None = None, to: Path | None = None) -> Path:
    """Fetches a model's files ahead of time; gives the folder they are in.

    Raises:
        InputError: as `find`, or `to` cannot be written.
    """
    checkpoint = find(model, revision)
    if to is None:
        return checkpoint.config.parent
    try:
        to.mkdir(parents=True, exist_ok=True)
        for file in (checkpoint.config, checkpoint.tokenizer, *checkpoint.tensors):
            shutil.copyfile(file, to / file.name)
        index = checkpoint.config.parent / INDEX
        if len(checkpoint.tensors) > 1:
            shutil.copyfile(index, to / INDEX)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {error.strerror}") from None
    return to


def _collect(model: str, fetch: Fetch, tensors: tuple[Path, ...] = ()) -> Checkpoint:
    config = fetch("config.json")
    if config is None:
        raise InputError(f"{model} has no config.json")
    tokenizer = fetch("tokenizer.json")
    if tokenizer is None:
        raise InputError(f"{model} has no tokenizer.json")
    if not tensors:
        tensors = _tensors(model, fetch)
    return Checkpoint(model, config, tokenizer, tensors)


def _tensors(model: str, fetch: Fetch) -> tuple[Path, ...]:
    if single := fetch(SINGLE):
        return (single,)
    index = fetch(INDEX)
    if index is None:
        pickled = fetch("pytorch_model.bin") is not None
        what = f"only a pickle, and {_REFUSED}" if pickled else f"no {SINGLE} and no {INDEX}"
        raise InputError(f"{model} has {what}")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index} is not a safetensors index: get it again") from None
    shards = []
    for name in names:
        if not re.fullmatch(r"[\w-][\w.-]*\.safetensors", str(name)):
            raise InputError(f"{index} names {name!r}, which is not a safetensors file beside it")
        shard = fetch(name)
        if shard is None:
            raise InputError(f"{model} has no {name}, which {index.name} asks for")
        shards.append(shard)
    return tuple(shards)


def _in_folder(folder: Path) -> Fetch:
    return lambda name: path if (path := folder / name).is_file() else None


def _on_hub(model: str, revision: str | None) -> Fetch:
    from huggingface_hub import file_exists, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def fetch(name: str) -> Path | None:
        try:
            if name == "pytorch_model.bin":  # only asked whether it is there
                return Path(name) if file_exists(model, name, revision=revision) else None
            return Path(hf_hub_download(model, name, revision=revision))
        except LocalEntryNotFoundError:
            raise InputError(
                f"{model} is not on this machine and the hub cannot be reached: where there is a "
                f"network, run: minigpt download {model} --to DIR, and copy DIR here"
            ) from None
        except EntryNotFoundError:
            return None
        except GatedRepoError:
            raise InputError(
                f"{model} is gated: ask for access on its page, then: hf auth login"
            ) from None
        except RevisionNotFoundError:
            raise InputError(f"{model} has no revision {revision!r} on the hub") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise InputError(f"{model} is no file, no folder and no model on the hub") from None
        except (HfHubHTTPError, OSError) as error:
            raise InputError(
                f"{model}: {name} cannot be downloaded: {str(error).splitlines()[0]}"
            ) from None

    return fetch

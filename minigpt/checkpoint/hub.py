"""Where a model's files are: in the package, in a folder, or on the Hugging Face hub."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from minigpt.checkpoint.files import BESIDE, INDEX, SINGLE, Checkpoint
from minigpt.checkpoint.received import forget, guarded, wrong
from minigpt.errors import InputError, did_you_mean
from minigpt.harmless import bare
from minigpt.notes import note
from minigpt.storage.files import check_apart, filled
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
_PICKLE = "pytorch_model.bin"
_TOKENIZER, _VOCABULARY, _MERGES = "tokenizer.json", "vocab.json", "merges.txt"
_ADAPTER, _PIECES = "adapter_config.json", "tokenizer.model"
_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_ELSEWHERE = "where there is a network, run: minigpt download {} --to DIR, and copy DIR here"
_REFUSED = "loading a pickle can run any code; save the model as safetensors"

T = TypeVar("T")
Fetch = Callable[[str], Path | None]  # a file of the model, by name; None where it has no such file


def find(model: str, revision: str | None = None, again: bool = False) -> Checkpoint:
    """The files of `model`; those of a hub name are downloaded unless they are in its cache.

    Args:
        again: look at those in the cache too, and download what is damaged.

    Raises:
        InputError: there is no such model, it has no safetensors, or the hub cannot be reached.
    """
    fetch = source(model, revision, again)
    config = _fetched(model, "config.json", fetch)
    tokenizer, merges = _tokenizer(model, fetch)
    names = tensor_files(model, fetch, fetch)
    tensors = tuple(part(model, name, fetch(name)) for name in names)
    beside = {name: file for name in BESIDE if (file := fetch(name))}
    return Checkpoint(model, config, tokenizer, tensors, merges, beside)


def find_config(model: str) -> Path:
    """The config.json of `model`, where `find` would find it; no other file is asked for.

    Raises:
        InputError: there is no such model, it has none, or the hub cannot be reached.
    """
    return _fetched(model, "config.json", source(model))


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
        raise InputError(f"{model} cannot be read: {error.strerror}") from None
    if found:
        if revision is not None:
            raise InputError(f"{model} is on this machine: only a hub name has revisions")
        return found
    if not _HUB_NAME.fullmatch(model):
        raise InputError(f"{model!r} is no file, no folder and no hub name")
    for known in WEIGHTS:
        if model.casefold() == known.rpartition("/")[2].casefold() and model != known:
            raise InputError(f"{model!r} is no name of any weights; did you mean {known}?")
    return _on_hub(model, revision, again)


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
            raise InputError(f"{model} is not a .safetensors file")
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
        InputError: as `find`, or `to` cannot be written.
    """
    if to is None:
        return find(model, revision, again=True).config.parent
    made = not to.exists()
    try:
        to.mkdir(parents=True, exist_ok=True)  # or fail before the download
        try:
            checkpoint = find(model, revision, again=True)
        except InputError:
            if made:
                to.rmdir()
            raise
        check_apart([to / file.name for file in checkpoint.files], checkpoint.files)
        with filled(to, last=checkpoint.config.name) as part:
            for file in checkpoint.files:
                shutil.copyfile(file, part / file.name)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {error.strerror or error}") from None
    return to


def _fetched(model: str, name: str, fetch: Fetch) -> Path:
    file = fetch(name)
    if file is None:
        raise _lacks(model, name, fetch)
    return file


def _lacks(model: str, what: str, fetch: Fetch) -> InputError:
    if adapter := fetch(_ADAPTER):
        return InputError(f"{model} is {_adapter(adapter)}: merge it first, and save what comes")
    pickled = f"; its {_PICKLE} is refused: {_REFUSED}" if fetch(_PICKLE) else ""
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
    if whole := fetch(_TOKENIZER):
        return whole, None
    vocabulary, merges = fetch(_VOCABULARY), fetch(_MERGES)
    if vocabulary and merges:
        return vocabulary, merges
    if fetch(_PIECES):
        raise InputError(
            f"{model} has no {_TOKENIZER}, only a {_PIECES} of SentencePiece: let transformers "
            "make the one of the other, AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    what = f"{_TOKENIZER}" + (f" and no {_MERGES}" if vocabulary else "")
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
            raise InputError(f"{index} names {name!r}, which is not a safetensors file beside it")
    return names


def part(model: str, name: str, found: T | None) -> T:
    """What was found of a file that an index names. Raises InputError where that is None."""
    if found is None:
        raise InputError(f"{model} has no {name}, which {INDEX} asks for")
    return found


def _in_folder(folder: Path) -> Fetch:
    return lambda name: path if (path := folder / name).is_file() else None


def _on_hub(model: str, revision: str | None, again: bool) -> Fetch:
    from huggingface_hub import (
        _CACHED_NO_EXIST,
        file_exists,
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    known = (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError, EntryNotFoundError)

    @cache
    def unreachable() -> str:
        """Why the hub is, or "". Asked once: a download would try for half a minute, aloud."""
        try:
            with guarded():
                get_hf_file_metadata(hf_hub_url(model, "config.json", revision=revision))
        except (*known, HFValidationError):
            return ""
        except HfHubHTTPError as error:  # another answer
            return _answered(error)
        except InputError:
            raise
        except Exception as error:  # whatever the transport of this version raises
            return f"the hub cannot be reached ({first_line(error)}): {_ELSEWHERE.format(model)}"
        return ""

    def received(name: str, offline: bool) -> Path:
        """A file in the cache, or as it comes, held to what was promised."""
        there = try_to_load_from_cache(model, name, revision=revision)
        cached = Path(there) if isinstance(there, str) else None
        if cached and again and not offline and wrong(cached):
            forget(cached)
            cached = None
        with guarded(), redirect_stderr(bare(sys.stderr)):  # its bar moves the cursor
            got = hf_hub_download(model, name, revision=revision, local_files_only=offline)
        path = Path(got)
        if path != cached and (why := wrong(path)):
            forget(path)
            raise InputError(
                f"{model}: what came as {name} is damaged, or something else: {why}; it was not "
                "kept, so that running this again fetches it again"
            )
        return path

    @cache
    def fetch(name: str) -> Path | None:
        try:
            if name == _PICKLE:  # only asked whether it is there
                there = not unreachable() and file_exists(model, name, revision=revision)
                return Path(name) if there else None
            return received(name, offline=bool(unreachable()))
        except LocalEntryNotFoundError as error:
            if try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST:
                return None
            if name in BESIDE:
                note(f"{model}: whether it has a {name} is not known without the hub; none is used")
                return None
            if name in (_ADAPTER, _PIECES):  # would only make an error clearer
                return None
            cause = error.__cause__
            late = _answered(cause) if isinstance(cause, HfHubHTTPError) else first_line(error)
            raise InputError(
                f"{model} is not on this machine and {unreachable() or late}"
                + ("" if "/" in model else did_you_mean(model, WEIGHTS))
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
            raise InputError(
                f"{model} is no file, no folder and no model on the hub"
                + did_you_mean(model, WEIGHTS)
            ) from None
        except InputError:
            raise
        except Exception as error:  # the transport's, the disk's
            raise InputError(f"{model}: {name} cannot be fetched: {first_line(error)}") from None

    return fetch


def _answered(error: Any) -> str:
    """What the hub answered in place of a file, and the way out."""
    status = error.response.status_code if error.response is not None else 0
    ways = {
        403: "your token may not read it: hf auth whoami says whose it is",
        404: "nothing is there: is HF_ENDPOINT the address of a hub?",
        429: "it was asked too often: wait, or set HF_TOKEN, which may ask more often",
    }
    usual = "it fails: try again later" if status >= 500 else "it says no more"
    return f"the hub answers {status}: {ways.get(status, usual)}"


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

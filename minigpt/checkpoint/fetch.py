"""The files of a model on the Hugging Face hub, from its cache or over the network."""

import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import cache, partial
from pathlib import Path
from typing import Any

from minigpt.checkpoint import settings
from minigpt.checkpoint.files import ADAPTER, BESIDE, PICKLE, PIECES
from minigpt.checkpoint.received import (
    Unanswered,
    Unreached,
    answered,
    first_line,
    forget,
    guarded,
    wrong,
)
from minigpt.checks import shown
from minigpt.errors import InputError, did_you_mean
from minigpt.harmless import bare
from minigpt.notes import note
from minigpt.storage.reading import LONGEST

LARGEST = 50_000_000_000  # bytes of a file that the hub's library gets without Xet
Fetch = Callable[[str], Path | None]  # a file of the model, by name; None where it has no such file

_ELSEWHERE = "where there is a network, run: minigpt download {} --to DIR, and copy DIR here"
_NO_HUB = "what answers names no ETag or no X-Repo-Commit: is HF_ENDPOINT the address of a hub?"


def on_hub(model: str, revision: str | None, again: bool, known: Iterable[str]) -> Fetch:
    """What fetches the files of a model on the hub, each once.

    It raises InputError where one cannot be had, or the hub cannot be reached.

    Args:
        revision: branch, tag or commit; the main branch unless given.
        again: look at those in the cache too, and fetch what is damaged.
        known: names of models, one of which may have been meant.
    """
    settings.check()
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

    answers = (GatedRepoError, RevisionNotFoundError, RepositoryNotFoundError, EntryNotFoundError)
    silent: str | None = None  # why the hub is not asked, "" if it is

    def unreachable() -> str:
        """Why the hub is, or "". Asked once: a download would try for half a minute, aloud."""
        nonlocal silent
        if silent is None:
            silent = ""
            try:
                with guarded():
                    get_hf_file_metadata(hf_hub_url(model, "config.json", revision=revision))
            except (*answers, HFValidationError):
                pass
            except HfHubHTTPError as error:  # another answer
                silent = _status(error)
            except InputError:
                raise
            except Exception as error:  # whatever the transport of this version raises
                silent = _silence(error, model)
        return silent

    def received(name: str) -> Path:
        """A file in the cache, or as it comes, held to what was promised."""
        nonlocal silent
        get = partial(hf_hub_download, model, name, revision=revision)
        if unreachable():
            return Path(get(local_files_only=True))
        there = try_to_load_from_cache(model, name, revision=revision)
        cached = Path(there) if isinstance(there, str) else None
        if cached and again and wrong(cached):
            forget(cached)
            cached = None
        longest = LARGEST if name.endswith(".safetensors") else LONGEST
        try:
            with guarded(longest), redirect_stderr(bare(sys.stderr)):  # its bar moves the cursor
                path = Path(get())
        except Unanswered as error:  # it was there for the file before
            silent = _silence(error, model)
            return received(name)
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
            if name != PICKLE:
                return received(name)
            if unreachable():
                return None
            with guarded():  # it is only asked whether it is there
                return Path(name) if file_exists(model, name, revision=revision) else None
        except Unanswered:  # of what would only make an error clearer
            return None
        except LocalEntryNotFoundError as error:
            if try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST:
                return None
            if name in BESIDE:
                note(f"{model}: whether it has a {name} is not known without the hub; none is used")
                return None
            if name in (ADAPTER, PIECES):  # would only make an error clearer
                return None
            cause = error.__cause__
            late = _status(cause) if isinstance(cause, HfHubHTTPError) else _NO_HUB
            raise InputError(
                f"{model} is not on this machine and {unreachable() or late}"
                + ("" if "/" in model else did_you_mean(model, known))
            ) from None
        except EntryNotFoundError:
            return None
        except GatedRepoError:
            raise InputError(
                f"{model} is gated: ask for access on its page, then: hf auth login"
            ) from None
        except RevisionNotFoundError:
            raise InputError(f"{model} has no revision {shown(revision)} on the hub") from None
        except (RepositoryNotFoundError, HFValidationError):
            raise InputError(
                f"{model} is no file, no folder and no model on the hub"
                + did_you_mean(model, known)
            ) from None
        except InputError:
            raise
        except Exception as error:  # the transport's, the disk's
            path = str(getattr(error, "filename", None) or "")
            raise InputError(
                f"{model}: {name} cannot be fetched: {first_line(error)}{settings.of_path(path)}"
            ) from None

    return fetch


def _silence(error: Exception, model: str) -> str:
    """Why the hub is not asked any more, and the way out."""
    if isinstance(error, Unanswered) and not isinstance(error, Unreached):
        return str(error)
    why = f"{first_line(error)}{settings.on_the_way()}"
    return f"the hub cannot be reached ({why}): {_ELSEWHERE.format(model)}"


def _status(error: Any) -> str:
    return answered(error.response.status_code if error.response is not None else 0)

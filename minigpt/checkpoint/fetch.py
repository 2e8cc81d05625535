"""The files of a model on the Hugging Face hub, from its cache or over the network."""

import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from typing import Any

from minigpt.checkpoint.files import ADAPTER, BESIDE, PICKLE, PIECES
from minigpt.checkpoint.received import forget, guarded, wrong
from minigpt.checks import shown
from minigpt.errors import InputError, did_you_mean
from minigpt.harmless import bare
from minigpt.notes import note

Fetch = Callable[[str], Path | None]  # a file of the model, by name; None where it has no such file

_ELSEWHERE = "where there is a network, run: minigpt download {} --to DIR, and copy DIR here"


def on_hub(model: str, revision: str | None, again: bool, known: Iterable[str]) -> Fetch:
    """What fetches the files of a model on the hub, each once.

    It raises InputError where one cannot be had, or the hub cannot be reached.

    Args:
        revision: branch, tag or commit; the main branch unless given.
        again: look at those in the cache too, and fetch what is damaged.
        known: names of models, one of which may have been meant.
    """
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

    @cache
    def unreachable() -> str:
        """Why the hub is, or "". Asked once: a download would try for half a minute, aloud."""
        try:
            with guarded():
                get_hf_file_metadata(hf_hub_url(model, "config.json", revision=revision))
        except (*answers, HFValidationError):
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
            if name == PICKLE:  # only asked whether it is there
                there = not unreachable() and file_exists(model, name, revision=revision)
                return Path(name) if there else None
            return received(name, offline=bool(unreachable()))
        except LocalEntryNotFoundError as error:
            if try_to_load_from_cache(model, name, revision=revision) is _CACHED_NO_EXIST:
                return None
            if name in BESIDE:
                note(f"{model}: whether it has a {name} is not known without the hub; none is used")
                return None
            if name in (ADAPTER, PIECES):  # would only make an error clearer
                return None
            cause = error.__cause__
            late = _answered(cause) if isinstance(cause, HfHubHTTPError) else first_line(error)
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

"""What the environment tells the hub's library: a wrong value is named here, and not there."""

import os
import re
from collections.abc import Callable
from importlib import import_module
from urllib.parse import urlsplit

from minigpt.checkpoint.received import first_line, quiet
from minigpt.errors import InputError

_NETWORK = (
    *("HF_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "https_proxy", "http_proxy"),
)


def _is_address(value: str) -> bool:
    """Whether it can be taken apart; what it is the address of shows when it is asked."""
    try:
        return urlsplit(value).port != 0
    except ValueError:
        return False


def _is_seconds(value: str) -> bool:
    return re.fullmatch(r"\s*[0-9]{1,5}\s*", value, re.ASCII) is not None


_SECONDS = (_is_seconds, "a number of whole seconds below 100000")
_RIGHT: dict[str, tuple[Callable[[str], bool], str]] = {
    "HF_ENDPOINT": (_is_address, "an address, as https://huggingface.co is"),
    "HF_HUB_ETAG_TIMEOUT": _SECONDS,
    "HF_HUB_DOWNLOAD_TIMEOUT": _SECONDS,
    "HF_TOKEN": (str.isascii, "a token: it has other characters than ASCII has"),
}


def check() -> None:
    """Starts the hub's library, which reads its settings as it is imported.

    Raises:
        InputError: one of them is wrong; the value of a token is not shown.
    """
    for name, (right, what) in _RIGHT.items():
        value = os.environ.get(name)
        if value is not None and not right(value):
            shown = "" if "TOKEN" in name else f" {value!r}"
            raise InputError(f"{name}{shown} is not {what}: set it right, or unset it")
    try:
        with quiet(None):  # of settings that it ignores it warns
            import_module("huggingface_hub.file_download")
    except Exception as error:  # whatever a setting of this version does
        names = sorted(name for name in os.environ if name.startswith("HF_"))
        raise InputError(
            f"huggingface_hub cannot be imported: {first_line(error)}{_set(names)}"
        ) from None


def on_the_way() -> str:
    """The variables, if any are set, that say how the hub is reached: the end of an error."""
    return _set([name for name in _NETWORK if name in os.environ])


def of_path(path: str) -> str:
    """The variables, if any, that say that files of the hub are at `path`: the end of an error."""
    names = [
        name
        for name, value in os.environ.items()
        if name.startswith(("HF_", "HUGGINGFACE_", "XDG_")) and value and path.startswith(value)
    ]
    return _set(names)


def _set(names: list[str]) -> str:
    return f"; look at {', '.join(names)}" if names else ""

"""What lies beside a tokenizer and says how it is to be used: tokens added, a space in front."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from minigpt.checkpoint.chat import ChatTemplate
from minigpt.checkpoint.files import Checkpoint
from minigpt.checks import NAME, SWITCH, shown
from minigpt.errors import InputError
from minigpt.models.values import Values
from minigpt.storage.files import reason
from minigpt.storage.reading import text

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order that they are added in
MOST = 2**31  # tokens: no id is as large
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

# Special tokens that classes of transformers have where their files name none.
_DEFAULTS = {
    "GPT2Tokenizer": dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    "Qwen2Tokenizer": dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>"),
}


@dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer_config.json, with the older files that say a part of it.

    Attributes:
        kind: the class of transformers that is to read the tokenizer, "" where none is named.
        special: special tokens by their roles, as "bos_token".
        added: tokens with their flags, which hold if the tokenizer has them with others.
        named: all tokens that are special, which the tokenizer is to have under whatever flags.
        prefix_space: whether text is to begin with a space, if that is said.
        legacy: whether that space also comes after each special token, in a `LlamaTokenizer`.
        begin, end: whether the first and the last of a prompt are tokens of their own; where there
            is a tokenizer.json, that says it.
        chat: the template of chats, if there is one.
    """

    kind: str
    special: Mapping[str, str]
    added: tuple[AddedToken, ...]
    named: tuple[AddedToken, ...]
    prefix_space: bool | None
    legacy: bool
    begin: bool
    end: bool
    chat: ChatTemplate | None

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> "TokenizerConfig":
        """That of a model; one without such files says nothing.

        Raises:
            InputError: a file is malformed.
        """
        values = checkpoint.values("tokenizer_config.json")
        old = "added_tokens_decoder" not in values.given
        map_values = checkpoint.values("special_tokens_map.json") if old else Values({}, "")
        given = {**values.given, **map_values.given}
        kind = given.get("tokenizer_class") or ""
        if must := NAME(kind):
            raise values.error(f"tokenizer_class is {shown(kind)}; it must be {must}")
        kind = kind.removesuffix("Fast")
        defaults = _DEFAULTS.get(kind or "GPT2Tokenizer", {}) if checkpoint.merges else {}
        try:
            special = _special({**defaults, **given})
            extra = _listed(given)
        except TypeError as error:
            raise (map_values if map_values.given else values).error(str(error)) from None
        named = [*{repr(token): token for token in (*special.values(), *extra)}.values()]
        names = dict.fromkeys(token.content for token in named)
        if kind == "Qwen2Tokenizer" and checkpoint.merges:  # which adds them again, without flags
            named = [AddedToken(name, special=True) for name in names]
        added = _old(checkpoint.values("added_tokens.json"), names) if old else _added(values)
        texts = {role: token.content for role, token in special.items()}
        return cls(
            kind=kind,
            special=texts,
            added=tuple(added),
            named=tuple(named),
            prefix_space=values.add_prefix_space,
            legacy=bool(values.legacy),
            begin=bool(values.add_bos_token),
            end=bool(values.add_eos_token),
            chat=_chat(checkpoint, values, texts),
        )


def _flags(token: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are said of a token. Raises TypeError where one is neither true nor false."""
    flags = {name: value for name, value in token.items() if name in _FLAGS}
    for name, value in flags.items():
        if must := SWITCH(value):
            raise TypeError(f"{name} of a token is {shown(value)}; it must be {must}")
    return flags


def _token(given: Any, role: str) -> AddedToken:
    """A special token, which stands there by itself or among its flags.

    Raises:
        TypeError: it is neither.
    """
    content = given.get("content") if isinstance(given, dict) else given
    if not isinstance(content, str):
        raise TypeError(f"{role} is {shown(given)}; it must be a token")
    flags = _flags(given) if isinstance(given, dict) else {}
    return AddedToken(content, **flags | {"special": True})


def _special(given: Mapping[str, Any]) -> dict[str, AddedToken]:
    """Those that have a role: a standard one, or one of the model's own. Null has none."""
    extra = given.get("extra_special_tokens")
    given = {**(extra if isinstance(extra, dict) else {}), **given}
    standard = [f"{role}_token" for role in _ROLES]
    own = [key for key in given if key.endswith("_token") and isinstance(given[key], str | dict)]
    roles = dict.fromkeys([*standard, *own])
    return {role: _token(given[role], role) for role in roles if given.get(role) is not None}


def _listed(given: Mapping[str, Any]) -> list[AddedToken]:
    """Those that have none; those of an object have, see `_special`."""
    found = list[AddedToken]()
    for name in ("additional_special_tokens", "extra_special_tokens"):
        several = given.get(name) or []
        if isinstance(several, dict) and name == "extra_special_tokens":
            for role, token in several.items():
                _token(token, f"{name}: {role}")
        elif not isinstance(several, list):
            raise TypeError(f"{name} is {shown(several)}; it must be a list of tokens")
        elif not found:
            found = [_token(token, f"one of {name}") for token in several]
    return found


def _added(values: Values) -> list[AddedToken]:
    """Those of the `added_tokens_decoder`, by their ids."""
    given = values.given["added_tokens_decoder"]
    try:
        by_id = {int(index): token for index, token in given.items()}
        if not all(0 <= index < MOST for index in by_id):
            raise ValueError
        return [AddedToken(by_id[i]["content"], **_flags(by_id[i])) for i in sorted(by_id)]
    except (ValueError, TypeError, LookupError, AttributeError):
        raise values.error("added_tokens_decoder is not tokens by their ids") from None


def _old(values: Values, special: Collection[str]) -> list[AddedToken]:
    """Those of an added_tokens.json, by their ids."""
    try:
        tokens = sorted(values.given, key=lambda token: int(values.given[token]))
    except (ValueError, TypeError):
        raise values.error("it is not the ids of tokens") from None
    return [
        AddedToken(token, normalized=token not in special, special=token in special)
        for token in tokens
    ]


def _chat(checkpoint: Checkpoint, values: Values, special: dict[str, str]) -> ChatTemplate | None:
    """The chat_template.jinja, or else what the configuration says."""
    if path := checkpoint.beside.get("chat_template.jinja"):
        try:
            return ChatTemplate(text(path), special, str(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as text: {reason(error)}") from None
    given = values.given.get("chat_template")
    if isinstance(given, list):  # several, by name
        try:
            given = {each["name"]: each["template"] for each in given}.get("default")
        except (LookupError, TypeError):
            raise values.error("chat_template is neither a template nor a list of them") from None
    if given is None:
        return None
    if not isinstance(given, str):
        raise values.error("chat_template is neither a template nor a list of them")
    return ChatTemplate(given, special, str(values.source))

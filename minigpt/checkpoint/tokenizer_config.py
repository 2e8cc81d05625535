"""What lies beside a tokenizer and says how it is to be used: tokens added, a space in front."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken

from minigpt.checkpoint.chat import ChatTemplate
from minigpt.checkpoint.files import Checkpoint
from minigpt.errors import InputError
from minigpt.models.config import Values

_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in the order that they are added in
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
        named: the text of all tokens that are special, which the tokenizer is to have.
        prefix_space: whether text is to begin with a space, if that is said.
        legacy: whether that space also comes after each special token, in a `LlamaTokenizer`.
        begin, end: whether the first and the last of a prompt are tokens of their own; where there
            is a tokenizer.json, that says it.
        chat: the template of chats, if there is one.
    """

    kind: str
    special: Mapping[str, str]
    added: tuple[AddedToken, ...]
    named: tuple[str, ...]
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
        kind = str(given.get("tokenizer_class") or "").removesuffix("Fast")
        whole = checkpoint.merges is None
        special = _special(
            {**({} if whole else _DEFAULTS.get(kind or "GPT2Tokenizer", {})), **given}
        )
        more = given.get("additional_special_tokens") or given.get("extra_special_tokens") or []
        extra = [_text(token) for token in more] if isinstance(more, list) else []
        named = tuple(dict.fromkeys([*special.values(), *filter(None, extra)]))
        added = _old(checkpoint.values("added_tokens.json"), named) if old else _added(values)
        switches = values.without_null().switches(
            *("add_prefix_space", "legacy", "add_bos_token", "add_eos_token")
        )
        return cls(
            kind=kind,
            special=special,
            added=tuple(added),
            named=named,
            prefix_space=switches.get("add_prefix_space"),
            legacy=switches.get("legacy", False),
            begin=switches.get("add_bos_token", False),
            end=switches.get("add_eos_token", False),
            chat=_chat(checkpoint, values, special),
        )


def _text(token: Any) -> str | None:
    """What a token is called, which stands there by itself or among its flags."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _special(given: Mapping[str, Any]) -> dict[str, str]:
    """Those that have a role: a standard one, or one of the model's own."""
    roles = [f"{role}_token" for role in _ROLES]
    own = [key for key in given if key.endswith("_token") and key not in roles]
    extra = given.get("extra_special_tokens")
    given = {**(extra if isinstance(extra, dict) else {}), **given}
    roles += own + [key for key in (extra if isinstance(extra, dict) else {}) if key not in own]
    found = {role: _text(given.get(role)) for role in roles}
    return {role: text for role, text in found.items() if text is not None}


def _added(values: Values) -> list[AddedToken]:
    """Those of the `added_tokens_decoder`, by their ids."""
    given = values.given["added_tokens_decoder"]
    try:
        return [
            AddedToken(token["content"], **{k: v for k, v in token.items() if k in _FLAGS})
            for _, token in sorted((int(index), token) for index, token in given.items())
        ]
    except (ValueError, TypeError, LookupError, AttributeError):
        raise values.error("added_tokens_decoder is not tokens by their ids") from None


def _old(values: Values, special: tuple[str, ...]) -> list[AddedToken]:
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
            return ChatTemplate(path.read_text(encoding="utf-8"), special, str(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as text: {error}") from None
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

"""From a message to a model to the prompt that it was trained to answer: its chat template."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from minigpt.errors import InputError

LONGEST = 200  # characters of what a template says is wrong


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, as transformers renders it: in a sandbox, for it is another's program.

    Attributes:
        code: the template.
        special: the tokens that it may name, as "bos_token", and their text.
        source: where it stands, for errors.
    """

    code: str
    special: Mapping[str, str]
    source: str

    def render(self, message: str) -> str:
        """The prompt for an answer to a user's message.

        Raises:
            InputError: the template is malformed, refuses the message, or fails.
        """
        values = {"messages": [{"role": "user", "content": message}], **self.special}
        none: dict[str, Any] = {"tools": None, "documents": None}
        try:
            return _compiled(self.code).render(**none, **values, add_generation_prompt=True)
        except RecursionError:
            raise InputError(f"the chat template of {self.source} is nested too deep") from None
        except Exception as error:  # whatever the code of a template may raise
            line = " ".join(str(error)[:LONGEST].split()) or type(error).__name__
            raise InputError(f"the chat template of {self.source} fails: {line}") from None


def _compiled(code: str) -> Any:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser

    from minigpt.checkpoint.sandbox import BoundedEnvironment

    class Generation(Extension):
        """`{% generation %}`, which marks answers for a training, and is their text here."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        """As JSON has it: Jinja's own escapes what means something in HTML."""
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    extensions = [Generation, loopcontrols]
    environment = BoundedEnvironment(
        {"tojson": tojson}, trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(code)

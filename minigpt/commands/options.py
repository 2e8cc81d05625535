"""Options that several commands have, each declared once: its type, its name and its help."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from minigpt.errors import without_effect

if TYPE_CHECKING:  # it imports NumPy
    from minigpt.inference.sample import Sampling

# A model to run.
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit on the hub")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Engine = Annotated[
    str | None, typer.Option(help="on cuda: reference, the model's own code, or fast, one kernel")
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16 or int8")]

# How it continues a text.
MaxNewTokens = Annotated[int, typer.Option(help="tokens to generate, at most")]
Temperature = Annotated[float, typer.Option(help="0 takes the most likely token")]
TopK = Annotated[int | None, typer.Option(help="draw from the k most likely tokens")]
TopP = Annotated[float | None, typer.Option(help="draw from the top probability p")]
Seed = Annotated[int | None, typer.Option(help="same seed, same text")]
IgnoreEos = Annotated[bool, typer.Option("--ignore-eos", help="go on after the end")]
Chat = Annotated[bool, typer.Option("--chat", help="the prompt is a message: answer it")]

# What is printed.
Json = Annotated[bool, typer.Option("--json", help="one JSON document")]
JsonLast = Annotated[bool, typer.Option("--json", help="one JSON document as the last line")]


class ModelOptions(NamedTuple):
    """The model to run, as the arguments of `load`."""

    model: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    engine: str | None = None


def sampling(
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    ignore_eos: bool,
) -> "Sampling":
    """The options of a text's continuation.

    Raises:
        InputError: one cannot be used, or would do nothing.
    """
    from minigpt.inference.sample import Sampling

    if temperature == 0:
        without_effect({"--top-k": top_k, "--top-p": top_p}, "--temperature 0")
    return Sampling(max_new_tokens, temperature, top_k, top_p, seed, ignore_eos)

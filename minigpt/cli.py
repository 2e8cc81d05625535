"""The `minigpt` command. Each command imports what it needs, so that starting is quick."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from minigpt.errors import InputError

app = typer.Typer(
    help="GPT-2 in plain NumPy that counts itself while it runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[
    str, typer.Option(help="shakespeare (comes along), a hub name, a folder or a .safetensors file")
]
Revision = Annotated[str | None, typer.Option(help="branch, tag or commit on the hub")]


@app.callback()
def _group() -> None:
    """Keeps the commands apart even while there is only one."""


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="the text to continue; - reads it")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="one more prompt of a batch (repeatable)")
    ] = None,
    model: Model = "shakespeare",
    revision: Revision = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32 or float16")] = "float32",
    max_new_tokens: Annotated[int, typer.Option(help="tokens to generate, at most")] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="draw from the k most likely tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from the top probability p")] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same text")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="go on after the end")] = False,
    log: Annotated[Path | None, typer.Option(help="one JSON line for each token")] = None,
    json: Annotated[bool, typer.Option("--json", help="one JSON document, no text")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="the text alone")] = False,
) -> None:
    """Continue a text and count what it costs."""
    from minigpt.run import run

    given = [text for text in [prompt, *(prompts or [])] if text is not None]
    options = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "ignore_eos": ignore_eos,
    }
    place = {"revision": revision, "device": device, "dtype": dtype}
    raise typer.Exit(run(given, model, place, options, log=log, as_json=json, quiet=quiet))


@app.command()
def download(
    model: Annotated[str, typer.Argument(help="a hub name: gpt2-xl, owner/name")],
    to: Annotated[Path | None, typer.Option(help="folder to put the files in")] = None,
    revision: Revision = None,
) -> None:
    """Fetch a model ahead of time and say where it is."""
    from minigpt.hub import download as fetch

    folder = fetch(model, revision, to)
    print(f"{model} is in {folder}")


bench = typer.Typer(help="Ratios of things run in turn, on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.callback()
def _benchmarks() -> None:
    """Keeps the benchmarks apart even while there is only one."""


@bench.command()
def overhead(
    model: Annotated[str, typer.Argument(help="gpt2, gpt2-medium, gpt2-large, gpt2-xl")] = "gpt2",
    pairs: Annotated[int, typer.Option(help="pairs of steps to time")] = 40,
    keys: Annotated[int, typer.Option(help="tokens in the cache")] = 128,
    json: Annotated[bool, typer.Option("--json", help="one JSON document")] = False,
) -> None:
    """What counting adds to a decoded token: bare and counted steps in turn, random weights."""
    from minigpt.bench import overhead as measure

    result = measure(model, pairs, keys)
    if json:
        import json as format

        print(format.dumps(result.as_dict()))
        return
    low, high = result.percent_quartiles
    print(
        f"{result.model}, {result.keys} keys, {result.operations} operations a token: bare "
        f"{result.bare_ms:.2f} ms, counted {result.counted_ms:.2f} ms (medians)\n"
        f"counting adds {result.percent:.1f} % in the median of {result.pairs} pairs "
        f"(quartiles {low:.1f} % to {high:.1f} %)"
    )


def _fail(message: str) -> NoReturn:
    print(f"minigpt: {message}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Runs the command. Bad input is one line on standard error and exit status 2."""
    try:
        status = app(standalone_mode=False)
    except InputError as error:
        _fail(str(error))
    except TyperException as error:  # an unknown command or option, a value of another type
        _fail(f"{error.format_message().rstrip('.')} (see minigpt --help)")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(status)

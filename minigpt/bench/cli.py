"""The commands of `minigpt bench`."""

from pathlib import Path
from typing import Annotated

import typer

from minigpt.commands.options import Json, JsonLast
from minigpt.errors import without_effect

app = typer.Typer(help="Ratios of things run in turn, on this machine.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(help="a preset (random weights), shakespeare, a folder or owner/name"),
]
Engines = Annotated[
    list[str] | None, typer.Option("--engine", help="to run (repeatable); all installed if none")
]
Dtypes = Annotated[
    list[str],
    typer.Option("--dtype", help="of weights (repeatable): float32, bfloat16, float16, int8"),
]
Rounds = Annotated[int, typer.Option(help="fresh processes of each engine, in turn")]
PromptTokens = Annotated[int, typer.Option(help="tokens before the first new one")]

DTYPES = ["float32", "bfloat16", "int8"]
ALONE = [1]  # sequences together
MODELS = ["gpt2"]
PROCESSES = [1, 2, 4]


@app.command()
def decode(
    model: Model = "gpt2",
    engine: Engines = None,
    dtype: Dtypes = DTYPES,
    rounds: Rounds = 5,
    prompt_tokens: PromptTokens = 16,
    new_tokens: Annotated[int, typer.Option(help="tokens to generate")] = 32,
    batch: Annotated[
        list[int], typer.Option(help="sequences to decode together (repeatable), to find cliffs")
    ] = ALONE,
    json: JsonLast = False,
) -> None:
    """Time per token, beside the memory's floor and the peers.

    It says too whether their tokens agree.
    """
    from minigpt.bench.engines import entries
    from minigpt.bench.measure import agreement, cliff_lines, measure, show
    from minigpt.bench.worker import Case

    cases = [Case(prompt_tokens, n) for n in sorted({*batch})]
    result = measure("decode", model, entries(engine or (), dtype), rounds, cases, new_tokens)
    show(result, json, *agreement(result), *(cliff_lines(result) if len(cases) > 1 else ()))


@app.command()
def prefill(
    model: Model = "gpt2",
    engine: Engines = None,
    dtype: Dtypes = DTYPES,
    rounds: Rounds = 3,
    tokens: Annotated[int | None, typer.Option(help="of the prompt; 512 if not given")] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="prompts of 1 to 64 tokens, to find cliffs")
    ] = False,
    json: JsonLast = False,
) -> None:
    """Time per token of a prompt, warm."""
    from minigpt.bench.engines import entries
    from minigpt.bench.measure import SWEEP, cliff_lines, measure, show
    from minigpt.bench.worker import Case

    if sweep:
        without_effect({"--tokens": tokens}, "--sweep")
    lengths = SWEEP if sweep else (512 if tokens is None else tokens,)
    cases = [Case(length) for length in lengths]
    result = measure("prefill", model, entries(engine or (), dtype), rounds, cases)
    show(result, json, *(cliff_lines(result) if sweep else ()))


@app.command()
def load(
    model: Model = "gpt2",
    engine: Engines = None,
    dtype: Dtypes = DTYPES,
    rounds: Rounds = 3,
    prompt_tokens: PromptTokens = 16,
    json: JsonLast = False,
) -> None:
    """Time from the start to the first token, and peak memory.

    The second start of a process: files are in memory by then.
    """
    from minigpt.bench.engines import entries
    from minigpt.bench.measure import measure, show
    from minigpt.bench.worker import Case

    chosen = entries(engine or (), dtype)
    show(measure("load", model, chosen, rounds, [Case(prompt_tokens)]), json)


@app.command()
def peers(model: Model = "gpt2", dtype: Dtypes = DTYPES, json: JsonLast = False) -> None:
    """Which peers are installed, and whether their tokens agree."""
    from minigpt.bench.engines import beside_peers, entries
    from minigpt.bench.measure import agreement, measure, show
    from minigpt.bench.worker import Case

    result = measure("decode", model, entries(beside_peers(), dtype), 1, [Case(16)], 32)
    show(result, json, *agreement(result))


@app.command("all")
def everything(
    model: Annotated[
        list[str],
        typer.Option(help="as of the others (repeatable); of all but the first, decoding alone"),
    ] = MODELS,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="to run (repeatable); minigpt and the peers installed if none"),
    ] = None,
    dtype: Dtypes = DTYPES,
    rounds: Rounds = 5,
    markdown: Annotated[bool, typer.Option("--markdown", help="one table in Markdown")] = False,
    json: JsonLast = False,
) -> None:
    """All phases in one table, beside the peers.

    Decoding alone and 2 to 16 sequences together, a prompt of 512 tokens, and a start.
    """
    from minigpt.bench.engines import beside_peers, entries
    from minigpt.bench.everything import everything as measure
    from minigpt.bench.measure import show

    result, agreement = measure(model, entries(engine or beside_peers(), dtype), rounds)
    show(result, json, *agreement, as_markdown=markdown)


@app.command()
def overhead(
    model: Model = "gpt2",
    pairs: Annotated[int, typer.Option(help="pairs of steps to time")] = 40,
    keys: Annotated[int, typer.Option(help="tokens in the cache")] = 128,
    dtype: Annotated[str, typer.Option(help="as of minigpt generate")] = "float32",
    json: Json = False,
) -> None:
    """What counting adds to a decoded token: steps of both, in turn."""
    from minigpt.bench.overhead import overhead as measure

    result = measure(model, pairs, keys, dtype)
    if json:
        import json as format

        from minigpt.schema import SCHEMA

        print(format.dumps({"schema": SCHEMA, **result._asdict()}))
        return
    low, high = result.percent_quartiles
    print(
        f"{result.model} {result.dtype}, {result.keys} keys, {result.operations} operations a "
        f"token: bare {result.bare_ms:.2f} ms, counted {result.counted_ms:.2f} ms (medians)\n"
        f"counting adds {result.percent:.1f} % in the median of {result.pairs} pairs "
        f"(quartiles {low:.1f} % to {high:.1f} %)"
    )


@app.command()
def record(
    model: Model = "gpt2",
    pairs: Annotated[int, typer.Option(help="pairs of tokens to time")] = 40,
    dtype: Annotated[str, typer.Option(help="as of minigpt generate")] = "float32",
    json: Json = False,
) -> None:
    """What recording adds to a counted token."""
    from minigpt.bench.record import record as measure

    result = measure(model, pairs, dtype)
    if json:
        import json as format

        from minigpt.schema import SCHEMA

        print(format.dumps({"schema": SCHEMA, **result._asdict()}))
        return
    low, high = result.percent_quartiles
    print(
        f"{result.model} {result.dtype}: counted {result.counted_ms:.2f} ms, "
        f"recorded too {result.recorded_ms:.2f} ms (medians)\n"
        f"recording adds {result.percent:.1f} % in the median of {result.pairs} pairs "
        f"(quartiles {low:.1f} % to {high:.1f} %)"
    )


@app.command()
def scaling(
    model: Annotated[
        str, typer.Argument(help="a name, a config.json, a folder; weights are random")
    ] = "smollm2-135m",
    tensor_parallel: Annotated[
        list[int], typer.Option(help="processes that share it (repeatable), beside one alone")
    ] = PROCESSES,
    strong: Annotated[
        bool, typer.Option("--strong", help="the model itself, not one that grows with them")
    ] = False,
    rounds: Annotated[int, typer.Option(help="runs of each number of processes, in turn")] = 5,
    passes: Annotated[int, typer.Option(help="tokens to time in a run")] = 20,
    keys: Annotated[int, typer.Option(help="tokens in the cache")] = 128,
    markdown: Annotated[bool, typer.Option("--markdown", help="the table in Markdown")] = False,
    json: JsonLast = False,
) -> None:
    """Time per token of processes of mpiexec that share a model.

    It grows with them, so that each has as much to do as one alone.
    """
    from minigpt.bench.scaling import scaling as measure
    from minigpt.bench.scaling import show

    show(measure(model, tensor_parallel, rounds, passes, keys, strong), json, markdown)


@app.command()
def operations(
    rounds: Annotated[int, typer.Option(help="how often each is timed")] = 75,
    json: JsonLast = False,
) -> None:
    """What counting adds to the operations that programs call most."""
    from minigpt.bench.operations import operations as measure
    from minigpt.bench.operations import show
    from minigpt.commands.terminal import console

    found = measure(rounds)
    if not json:
        console().print(show(found))
        return
    import json as format

    from minigpt.schema import SCHEMA

    print(format.dumps({"schema": SCHEMA, "operations": [row._asdict() for row in found]}))


@app.command()
def accuracy(
    model: Model = "shakespeare",
    text: Annotated[
        Path | None, typer.Option(help="a file to predict; what the model says itself if none")
    ] = None,
    json: JsonLast = False,
) -> None:
    """Logits and perplexity of each dtype against those of float32."""
    from minigpt.bench.accuracy import accuracy as measure
    from minigpt.bench.accuracy import show

    show(measure(model, text), json)

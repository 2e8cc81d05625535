"""The `minigpt` command. Each command imports what it needs, so that starting is quick."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from minigpt.bench.cli import app as bench
from minigpt.commands import options, process
from minigpt.commands.planning import count, gpus, plan
from minigpt.errors import InputError, without_effect
from minigpt.stepping.cli import step

app = typer.Typer(
    help="GPT-2 in plain NumPy that counts itself while it runs.",
    epilog="""Try: minigpt generate "To be, or not to be\"""",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing boxes would take longer than all else
)


def _version(asked: bool) -> None:
    if asked:
        from minigpt import __version__

        print(f"minigpt {__version__}")
        raise typer.Exit


@app.callback()
def _group(
    version: Annotated[
        bool, typer.Option("--version", help="the version", is_eager=True, callback=_version)
    ] = False,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="with any command: a debugger where an error is raised")
    ] = False,
) -> None:
    """Options of all commands."""


@app.command()
def generate(
    prompt: Annotated[str | None, typer.Argument(help="the text to continue; - reads it")] = None,
    prompts: Annotated[
        list[str] | None, typer.Option("--prompt", help="one more prompt of a batch (repeatable)")
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="shakespeare (comes along), a hub name, a folder or a .safetensors file"),
    ] = "shakespeare",
    revision: options.Revision = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    engine: options.Engine = None,
    max_new_tokens: options.MaxNewTokens = 64,
    temperature: options.Temperature = 0.8,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    ignore_eos: options.IgnoreEos = False,
    chat: options.Chat = False,
    log: Annotated[
        Path | None,
        typer.Option(help="one JSON line for each token; - is standard output, in place of text"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="a recording of the run, for minigpt report; or -, as --log")
    ] = None,
    ops: Annotated[
        bool, typer.Option("--ops", help="record each operation too, which takes its time")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="one JSON document, no text")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="the text alone")] = False,
    trace_allocator: Annotated[
        bool, typer.Option("--trace-allocator", help="add what was really allocated")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="the text over panels of its cost, on the whole screen")
    ] = False,
    tensor_parallel: Annotated[
        bool, typer.Option("--tensor-parallel", help="each process of mpiexec -n N has a part")
    ] = False,
) -> None:
    """Continue a text and count what it costs."""
    from minigpt.commands.generate import Output, run

    output = Output(log, record, ops, json, quiet, trace_allocator, live)
    sampling = options.sampling(max_new_tokens, temperature, top_k, top_p, seed, ignore_eos)
    given = [text for text in [prompt, *(prompts or [])] if text is not None]
    chosen = options.ModelOptions(model, revision, device, dtype, engine)
    if tensor_parallel:
        from minigpt.commands.together import together

        raise typer.Exit(together(given, chosen, sampling, output, chat))
    raise typer.Exit(run(given, chosen, sampling, output, chat))


@app.command()
def download(
    model: Annotated[str, typer.Argument(help="a hub name: gpt2-xl, owner/name")],
    to: Annotated[Path | None, typer.Option(help="folder to put the files in")] = None,
    revision: options.Revision = None,
) -> None:
    """Fetch a model ahead of time and say where it is."""
    from minigpt.checkpoint.hub import download as fetch

    folder = fetch(model, revision, to)
    print(f"{model} is in {folder}")


NAMED = "a name (gpt2-xl), a config.json, a folder, a hub name"
Named = Annotated[str, typer.Argument(help=NAMED)]


@app.command()
def formulas(
    model: Named = "gpt2",
    scores: Annotated[str, typer.Option(help="full, or causal: the masked half left out")] = "full",
    logits: Annotated[str, typer.Option(help="all positions, or last")] = "all",
    latex: Annotated[bool, typer.Option("--latex", help="as LaTeX")] = False,
    python: Annotated[bool, typer.Option("--python", help="as a Python function")] = False,
    json: options.Json = False,
) -> None:
    """Closed forms of what a model costs, read off a run on symbols."""
    from minigpt.commands.formulas import run

    asked = [form for form, yes in [("latex", latex), ("python", python), ("json", json)] if yes]
    if len(asked) > 1:
        told = " and ".join(f"--{form}" for form in asked)
        raise InputError(f"{told} are different forms of one answer: give one of them")
    run(model, asked[0] if asked else "table", scores, logits)


@app.command()
def verify(
    model: Annotated[
        str, typer.Argument(help=f"{NAMED}; with --peers, a Python file with `program` too")
    ] = "gpt2",
    machine: Annotated[
        bool, typer.Option("--machine", help="hold a pass against what the processor executes")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="of --machine: float32, bfloat16 or int8; all of them")
    ] = None,
    reference: Annotated[
        bool, typer.Option("--reference", help="of --machine: NumPy alone too, not judged, slow")
    ] = False,
    prompt: Annotated[int | None, typer.Option(help="new tokens of the pass")] = None,
    past: Annotated[int | None, typer.Option(help="tokens in the cache before it")] = None,
    seed: Annotated[int | None, typer.Option(help="of the configurations drawn")] = None,
    peers: Annotated[bool, typer.Option("--peers", help="run the counters installed too")] = False,
    tensor_parallel: Annotated[
        int | None, typer.Option(help="instead, what so many devices send each other")
    ] = None,
    json: options.JsonLast = False,
) -> None:
    """Hold every witness and published formula against execution.

    Exit status 1 if a witness disagrees. With --peers, a Python file that defines a function
    `program` and a tuple `arguments` of arrays is counted beside JAX and flopscope. With --machine,
    the processor is stepped through a decode step and a short prompt, of random weights, and is to
    execute what is counted, or what algebra says more. It takes a second for 100,000 instructions.
    With --tensor-parallel, closed forms of what devices send each other are held against their
    parts of the model, and what is published of it against both.
    """
    if machine:
        from minigpt.commands.verify_machine import run as step_through

        without_effect({"--peers": peers, "--tensor-parallel": tensor_parallel}, "--machine")
        raise typer.Exit(step_through(model, dtype, prompt, past, seed, reference, as_json=json))
    alone = {"--dtype": dtype, "--reference": reference}
    without_effect(alone, "a verification without --machine")
    if tensor_parallel is not None:
        from minigpt.commands.verify_wire import run as verify_wire

        without_effect({"--peers": peers}, "--tensor-parallel")
        raise typer.Exit(verify_wire(model, tensor_parallel, prompt, past, seed, as_json=json))
    from minigpt.commands.verify import run

    raise typer.Exit(run(model, prompt, past, seed, peers, as_json=json))


app.command()(count)
app.command()(plan)
app.command()(gpus)


@app.command()
def report(
    recording: Annotated[Path, typer.Argument(help="what generate --record wrote")],
    to: Annotated[
        list[Path] | None,
        typer.Option(help="a file to write, of the kind that its ending says (repeatable)"),
    ] = None,
    weight: Annotated[
        str, typer.Option(help="what a width stands for: flops, bytes or seconds")
    ] = "flops",
    gpu: Annotated[
        str | None, typer.Option(help="draw the roofline of a GPU too: a name of minigpt gpus")
    ] = None,
    figure: Annotated[
        str | None, typer.Option(help="in a picture, alone: memory, layers, roofline or kv")
    ] = None,
) -> None:
    """Show a recording: as tables, or as files to look at."""
    from minigpt.commands.report import run
    from minigpt.views.options import ViewOptions

    run(recording, to or (), ViewOptions(weight, gpu, figure))


@app.command()
def diff(
    a: Annotated[str, typer.Argument(help="a recording, or a model by any name that count takes")],
    b: Annotated[str, typer.Argument(help="another")],
    new_tokens: Annotated[
        int | None, typer.Option(help="of models: tokens of each sequence to run; 1")
    ] = None,
    past: Annotated[
        int | None, typer.Option(help="of models: tokens of each that are cached already; 0")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="of models: sequences; 1")] = None,
    dtype: Annotated[str | None, typer.Option(help="of models: as that of count; float16")] = None,
    json: options.Json = False,
) -> None:
    """Say where two runs, or two models, differ, and by what term."""
    from minigpt.commands.diff import run

    asked = {"--new-tokens": new_tokens, "--past": past, "--batch": batch, "--dtype": dtype}
    run(a, b, asked, as_json=json)


@app.command()
def article(json: options.Json = False) -> None:
    """The article behind this project, claim by claim, by execution."""
    from minigpt.commands.article import run

    run(json)


app.add_typer(bench, name="bench")
app.command()(step)


@app.command()
def cache(
    check: Annotated[
        bool, typer.Option("--check", help="read all of it, remove what is damaged")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="remove all of it")] = False,
) -> None:
    """Show what is kept to start quickly; check or clear it.

    That is packed weights, compiled kernels, and copies for `bench`. Exit status 1 if --check
    found something damaged.
    """
    from minigpt.commands.cache import run

    raise typer.Exit(run(check, clear))


def _debug(error: Exception) -> None:
    from minigpt.stepping.command import post_mortem

    post_mortem(error)


def main() -> NoReturn:
    """Runs the command. Bad input is one line on standard error and exit status 2."""
    process.run(app, _debug)

"""The command line of `minigpt step`."""

from typing import Annotated

import typer

from minigpt.commands import options


def step(
    prompt: Annotated[str, typer.Argument(help="the text to continue")],
    model: Annotated[
        str, typer.Option(help="shakespeare, a hub name, a folder or a .safetensors file")
    ] = "shakespeare",
    revision: options.Revision = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    at: Annotated[
        str | None, typer.Option(help="stop first where this path begins: h.3.attn.softmax, a glob")
    ] = None,
    token: Annotated[
        int | None, typer.Option(help="and not before the pass that gives this token, from 1")
    ] = None,
    max_new_tokens: options.MaxNewTokens = 64,
    temperature: options.Temperature = 0.8,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    ignore_eos: options.IgnoreEos = False,
    tui: Annotated[bool, typer.Option("--tui", help="a full screen instead of a prompt")] = False,
) -> None:
    """Step through a model in pdb, on the model's own lines.

    At the prompt, help lists the commands: layer, op, token, at, stop, back, ledger, mem, kv,
    cost, look, lens, attn, source, and pdb's own.
    """
    sampling = options.sampling(max_new_tokens, temperature, top_k, top_p, seed, ignore_eos)
    chosen = options.ModelOptions(model, revision, device, dtype)

    from minigpt.stepping.command import run, show
    from minigpt.stepping.stepper import Job

    job = Job(prompt, chosen, sampling, at, token)
    raise typer.Exit(show(job) if tui else run(job))

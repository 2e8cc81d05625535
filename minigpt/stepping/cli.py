"""The command line of `minigpt step`."""

from typing import Annotated

import typer

from minigpt.errors import without_effect


def step(
    prompt: Annotated[str, typer.Argument(help="the text to continue")],
    model: Annotated[
        str, typer.Option(help="shakespeare, a hub name, a folder or a .safetensors file")
    ] = "shakespeare",
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit on the hub")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16 or int8")] = "float32",
    at: Annotated[
        str | None, typer.Option(help="stop first where this path begins: h.3.attn.softmax, a glob")
    ] = None,
    token: Annotated[
        int | None, typer.Option(help="and not before the pass that gives this token, from 1")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="tokens to generate, at most")] = 64,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="draw from the k most likely tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="draw from the top probability p")] = None,
    seed: Annotated[int | None, typer.Option(help="same seed, same text")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="go on after the end")] = False,
    tui: Annotated[bool, typer.Option("--tui", help="a full screen instead of a prompt")] = False,
) -> None:
    """Step through a model in pdb, on the model's own lines.

    At the prompt, help lists the commands: layer, op, token, at, stop, back, ledger, mem, kv,
    cost, look, lens, attn, source, and pdb's own.
    """
    if temperature == 0:
        without_effect({"--top-k": top_k, "--top-p": top_p}, "--temperature 0")
    options = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "ignore_eos": ignore_eos,
    }
    place = {"revision": revision, "device": device, "dtype": dtype}
    if tui:
        from minigpt.stepping.screen.engine import show
        from minigpt.stepping.screen.messages import Job

        raise typer.Exit(show(Job(prompt, model, place, at, token, options)))
    from minigpt.stepping.command import run

    raise typer.Exit(run(prompt, model, place, at, token, options))

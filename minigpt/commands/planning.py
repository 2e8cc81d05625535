"""The command lines of `minigpt count`, `plan` and `gpus`: what a model would cost, and where."""

from pathlib import Path
from typing import Annotated

import typer

from minigpt.commands import options
from minigpt.errors import without_effect


def count(
    model: Annotated[
        str, typer.Argument(help="a preset, shakespeare, a config.json, a folder, or a hub name")
    ],
    new_tokens: Annotated[int, typer.Option(help="tokens of each sequence to run")] = 1,
    past: Annotated[int, typer.Option(help="tokens of each that are cached already")] = 0,
    batch: Annotated[int, typer.Option(help="sequences")] = 1,
    dtype: Annotated[
        str, typer.Option(help="float16, bfloat16, float32 or float64, of every array")
    ] = "float16",
    logits: Annotated[str, typer.Option(help="of all new positions, or of the last")] = "all",
    cache: Annotated[
        str | None, typer.Option(help="DeepSeek's: compressed, as if not given, or expanded")
    ] = None,
    by: Annotated[str | None, typer.Option(help="component, layer or op")] = None,
    tensor_parallel: Annotated[
        int | None, typer.Option(help="devices that have a part of each layer: what each does")
    ] = None,
    pipeline: Annotated[
        int | None, typer.Option(help="stages of devices, each with a run of layers")
    ] = None,
    experts: Annotated[
        int | None, typer.Option(help="groups of devices that divide the batch and routed experts")
    ] = None,
    json: options.Json = False,
) -> None:
    """Say what a pass of any model costs, run on shapes: no weights."""
    from minigpt.planning.forward import Pass

    sizes = Pass(new_tokens, past, batch, logits, dtype, cache)
    divided = tensor_parallel, pipeline, experts
    if divided == (None, None, None):
        from minigpt.commands.count import run

        run(model, sizes, by, as_json=json)
    else:
        from minigpt.commands.devices import run as run_devices
        from minigpt.planning.devices import Split

        without_effect({"--by": by}, "--tensor-parallel, --pipeline and --experts")
        split = Split(*(1 if n is None else n for n in divided))
        run_devices(model, sizes, split, as_json=json)


def plan(
    model: Annotated[
        str,
        typer.Argument(
            help="a preset, a config.json, a folder, owner/name on the hub, or all, of ten"
        ),
    ],
    gpu: Annotated[
        str, typer.Option(help="a name of minigpt gpus, cpu, a file that describes one, or all")
    ],
    gpus: Annotated[int, typer.Option(help="how many, in tensor parallel")] = 1,
    gpu_file: Annotated[
        Path | None, typer.Option(help="JSON or TOML that describes one more GPU")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="of arithmetic and cache; float16 where there is a rate")
    ] = None,
    weights_dtype: Annotated[
        str | None, typer.Option(help="of weights: as dtype, float8, int8, float4 or int4")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="tokens a sequence may hold; the model's, at most 8192")
    ] = None,
    batch: Annotated[int, typer.Option(help="sequences at once")] = 1,
    prompt: Annotated[
        int | None, typer.Option(help="tokens of a prompt; the context, at most 1024")
    ] = None,
    json: options.Json = False,
) -> None:
    """Say whether a model fits on a GPU, and how fast it can be there."""
    from minigpt.commands.plan import run
    from minigpt.planning.options import Options

    asked = Options(gpus, dtype, weights_dtype, context, batch, prompt)
    run(model, gpu, asked, gpu_file, as_json=json)


def gpus(
    gpu_file: Annotated[
        Path | None, typer.Option(help="JSON or TOML that describes one more")
    ] = None,
    measure_cpu: Annotated[
        bool, typer.Option("--measure-cpu", help="measure this machine, and list it too")
    ] = False,
    json: options.Json = False,
) -> None:
    """List hardware: memory, bandwidth, dense peak rates, sources."""
    from minigpt.commands.gpus import run

    run(json, gpu_file, measure_cpu)

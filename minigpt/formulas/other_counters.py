"""What other FLOP counters report on the same pass, and the same number made of our counts.

Each that is installed is run on the model at full size, without data: PyTorch's on meta or fake
tensors, JAX's on abstract arrays.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from counting import Counts
from counting.views import flops, macs, matmul
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.forward import Pass, forward

INSTALL = "pip install -e '.[counters]' in the clone brings them"  # the extra that has them


def cache_name(model: Any) -> str:
    """What a model of transformers calls the cache that it takes and gives.

    Version 5.24 calls it `cache`; `past_key_values`, its name before, is to go in 5.40.
    """
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


class Peer(NamedTuple):
    """Another counter.

    Attributes:
        needs: the packages it takes.
        report: runs it; None if it is only predicted.
        predict: what it should report, made of our counts.
        why: how it counts.
    """

    name: str
    needs: tuple[str, ...]
    report: Callable[[GPT2Config, Pass], int] | None
    predict: Callable[[Pass, Counts], int]
    why: str


class Reported(NamedTuple):
    """What a counter reported (None if it did not run) beside ours, in FLOP.

    Attributes:
        deviation: of what it should report from the matrix products' 2mnp, in percent.
        missing: the packages that it takes and that are not installed.
    """

    name: str
    reported: int | None
    predicted: int
    deviation: float
    why: str
    missing: tuple[str, ...] = ()


def installed(*packages: str) -> bool:
    return all(find_spec(package) for package in packages)


def panel(config: GPT2Config, sizes: Pass) -> list[Reported]:
    """Every peer on one pass, with logits of all positions."""
    counts = forward(config, sizes).counts
    ours = matmul(counts)
    rows = []
    for peer in PEERS:
        missing = tuple(package for package in peer.needs if not installed(package))
        reported = peer.report(config, sizes) if peer.report and not missing else None
        predicted = peer.predict(sizes, counts)
        deviation = 100 * (predicted / ours - 1)
        rows.append(Reported(peer.name, reported, predicted, deviation, peer.why, missing))
    return rows


@contextmanager
def quiet() -> Iterator[None]:
    """Silences other packages: their notices are no part of the answer."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@quiet()
def torch_flops(
    config: GPT2Config, sizes: Pass, attention: str = "eager", device: str = "meta"
) -> int:
    """FlopCounterMode on transformers' GPT2LMHeadModel; "fake" are CPU tensors without data."""
    fake: Any = import_module("torch._subclasses.fake_tensor")
    counting: Any = import_module("torch.utils.flop_counter")
    with fake.FakeTensorMode() if device == "fake" else nullcontext():
        real = "cpu" if device == "fake" else device
        step, tokens = _transformers(config, sizes, attention, real)
        with counting.FlopCounterMode(display=False) as counter:
            step(tokens)
    return int(counter.get_total_flops())


@quiet()
def _fvcore(config: GPT2Config, sizes: Pass) -> int:
    fvcore: Any = import_module("fvcore.nn")
    analysis = fvcore.FlopCountAnalysis(*_transformers(config, sizes))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return int(analysis.tracer_warnings("none").total())


@quiet()
def _calflops(config: GPT2Config, sizes: Pass) -> int:
    calflops: Any = import_module("calflops")
    step, tokens = _transformers(config, sizes)
    options = {"print_results": False, "output_as_string": False, "include_backPropagation": False}
    return int(calflops.calculate_flops(step, args=[tokens], **options)[0])


@quiet()
def _jax(config: GPT2Config, sizes: Pass) -> int:
    jax: Any = import_module("jax")
    B, T, N = sizes.B, sizes.T, sizes.N

    def step(weights: Any, tokens: Any) -> Any:
        model = GPT2(config, {key: Traced(array) for key, array in weights.items()})
        cache = model.new_cache(B, N + T)
        for layer in cache.layers:
            layer.length = N
        return model(Traced(tokens), cache, "all").data

    abstract = jax.ShapeDtypeStruct
    weights = {key: abstract(shape, np.float32) for key, shape in config.shapes().items()}
    lowered = jax.jit(step).lower(weights, abstract((B, T), np.int32))
    return int(lowered.cost_analysis()["flops"])


class Traced(NDArrayOperatorsMixin):
    """A JAX array that answers NumPy's functions, so that the model's own code runs on it."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any) -> "Traced":
        return self.__array_function__(ufunc, (), inputs, {})

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> "Traced":
        jnp: Any = import_module("jax.numpy")
        return Traced(getattr(jnp, function.__name__)(*map(_bare, args), **options))

    def __iter__(self) -> Iterator["Traced"]:  # JAX's indices past the end give the last
        return map(Traced, self.data)

    def __getitem__(self, index: Any) -> "Traced":
        return Traced(self.data[_bare(index)])

    def __setitem__(self, index: Any, value: "Traced") -> None:
        self.data = self.data.at[index].set(value.data)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.data, name)
        if name == "T":
            return Traced(found)
        return (lambda *a, **k: Traced(found(*a, **k))) if callable(found) else found


def _bare(x: Any) -> Any:
    return x.data if isinstance(x, Traced) else x


def _transformers(
    config: GPT2Config, sizes: Pass, attention: str = "eager", device: str = "meta"
) -> tuple[Any, Any]:
    """A pass of transformers' GPT-2 as a module of the tokens, and the tokens."""
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    B, T, N = sizes.B, sizes.T, sizes.N
    with torch.device(device):
        their = transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.n_positions,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_inner=config.ffn_dim,
            attn_implementation=attention,
            bos_token_id=None,
            eos_token_id=None,
        )
        model = transformers.GPT2LMHeadModel(their).eval().requires_grad_(False)
        held = torch.zeros(B, config.n_head, N, config.head_dim)
        tokens = torch.zeros(B, T, dtype=torch.long)

    class Step(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Any) -> Any:
            past = transformers.DynamicCache()
            for layer in range(config.n_layer if N else 0):
                past.update(held, held, layer)
            return self.model(tokens, **{cache_name(model): past}, use_cache=True).logits

    return Step(), tokens


def _attention(counts: Counts) -> int:
    return matmul(counts.where("*.qk")) + matmul(counts.where("*.av"))


def _norms(counts: Counts) -> int:
    """Layer norms at 5 operations an element; each element takes two multiplications."""
    return 5 * (counts.where("*ln_*").total("mul") // 2)


def _deepspeed(sizes: Pass, counts: Counts) -> int:
    biases = counts.where("*.c_*").total("add") // (sizes.B * sizes.T)
    return matmul(counts) + _norms(counts) + biases + counts.total("exp")


def _xla(sizes: Pass, counts: Counts) -> int:
    transcendental = sum(counts.total(kind) for kind in ("exp", "tanh", "sqrt"))
    selects = counts.total("exp")  # one score each, masked or not
    shifted = sizes.N > 0 and sizes.T > 1  # tril adds its offset, compares, selects
    mask = sizes.T * (sizes.N + sizes.T) * (3 if shifted else 2)
    return flops(counts) - transcendental + selects + mask + 3 * sizes.B * sizes.T


PEERS = (
    Peer(
        "torch FlopCounterMode, eager",
        ("torch", "transformers"),
        torch_flops,
        lambda sizes, counts: matmul(counts),
        "2mnp of every matrix product: our view matmul",
    ),
    Peer(
        "torch FlopCounterMode, sdpa on CPU",
        ("torch", "transformers"),
        lambda config, sizes: torch_flops(config, sizes, "sdpa", "fake"),
        lambda sizes, counts: matmul(counts) - _attention(counts),
        "torch 2.13 does not know the CPU's attention kernel: qk and av are silently zero",
    ),
    Peer(
        "fvcore FlopCountAnalysis",
        ("fvcore", "torch", "transformers"),
        _fvcore,
        lambda sizes, counts: macs(counts) + _norms(counts),
        "calls a multiply-add one flop: our view macs, and layer norm at 5 an element",
    ),
    Peer(
        "calflops",
        ("calflops", "torch", "transformers"),
        _calflops,
        _deepspeed,
        "2mnp, layer norm at 5 an element, softmax at 1, a bias as one vector for all rows",
    ),
    Peer(
        "DeepSpeed FlopsProfiler",
        (),
        None,
        _deepspeed,
        "predicted alone: as calflops, which took its rules from here",
    ),
    Peer(
        "JAX cost_analysis",
        ("jax",),
        _jax,
        _xla,
        "our view all without exp, tanh and sqrt (apart, as transcendentals), and what is not "
        "floating: selects, the mask, token indices; summed in float32",
    ),
)

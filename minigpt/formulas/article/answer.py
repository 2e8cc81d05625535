"""What an answer to the article is made of, and the executions that several answers read."""

from functools import cache
from typing import Any, NamedTuple

from counting import Counts
from counting.views import matmul
from minigpt.formulas.claims import GPU, NAMES, Claim, hold, n
from minigpt.formulas.closed_forms import B, Formulas, H, L, N, T, formulas
from minigpt.formulas.notation import plain
from minigpt.formulas.published import PUBLISHED
from minigpt.models.architectures import PRESETS
from minigpt.models.gpt2_config import GPT2Config
from minigpt.planning.forward import Pass, on_shapes
from minigpt.planning.plan import Plan, plan


class Answer(NamedTuple):
    """What execution says of a claim of the article.

    Attributes:
        verdict: "right", "condition" or "wrong", see `article.HEADINGS`.
        quotes: the claim in the article's words, exactly.
        executed: what a run or the table of hardware gives.
        reason: why they agree, under which condition, or why not.
    """

    verdict: str
    quotes: tuple[str, ...]
    executed: str
    reason: str


def right(executed: str, reason: str, *quotes: str) -> Answer:
    return Answer("right", quotes, executed, reason)


def condition(executed: str, reason: str, *quotes: str) -> Answer:
    return Answer("condition", quotes, executed, reason)


def wrong(executed: str, reason: str, *quotes: str) -> Answer:
    return Answer("wrong", quotes, executed, reason)


LLAMAS: dict[str, Any] = {"8B": PRESETS["llama-3.1-8b"], "405B": PRESETS["llama-3.1-405b"]}


def xl() -> GPT2Config:
    config = PRESETS["gpt2-xl"]
    assert isinstance(config, GPT2Config)
    return config


@cache
def forms() -> Formulas:
    """The closed forms of GPT-2, with 16-bit elements."""
    return formulas(xl(), dtype="float16")


def of_a_token(*components: str, view: str = "matmul", per: Any = 1) -> Any:
    """The FLOP of components for a token that looks at n keys, in symbols."""
    priced = forms().closed_forms["views"][view]["by_component"]
    total = sum(priced[name] for name in components or NAMES) / per
    return total.subs({B: 1, T: 1, N: n - 1}).expand()


def form(*components: str, view: str = "matmul", per: Any = 1) -> str:
    """`of_a_token` as a person writes it, as code."""
    return f"`{plain(of_a_token(*components, view=view, per=per))}`"


def token(config: Any, keys: int = 1) -> Counts:
    """What a token that looks at so many keys costs a model with 16-bit elements."""
    return on_shapes(config, Pass(N=keys - 1)).counts


def a_head(entry: Any) -> Any:
    """What a count of all layers and heads is for one of each, of a token that looks at n keys."""
    return (entry / (L * H)).subs({B: 1, T: 1, N: n - 1}).expand()


def a_block(config: Any, *modules: str) -> float:
    """FLOP of the modules of a block in units of d², at one key."""
    counts, d2 = token(config), config.hidden_size**2 * config.num_hidden_layers
    return sum(matmul(counts.where(f"*.{module}")) for module in modules) / d2


@cache
def claims() -> list[Claim]:
    """The article's formulas beside execution, on GPT-2 XL at one key and at its full context."""
    rows = [row for row in PUBLISHED if row.source == "article"]
    return hold(xl(), "gpt2-xl", [(1, 0), (1, xl().n_positions - 1)], rows)


def claim(where: str, keys: int = 1) -> Claim:
    return next(c for c in claims() if c.n == keys and c.published.where.startswith(where))


def why(found: Claim) -> str:
    return "; ".join(found.reasons)


@cache
def planned(name: str) -> Plan:
    """A model with 16-bit weights on the article's GPU."""
    return plan(name, PRESETS[name], GPU)


def percent(part: float, whole: float) -> str:
    return f"{100 * float(part / whole):.2g} %"

"""What an answer to the article is made of, and the executions that several answers read."""

from functools import cache, partial
from typing import Any, NamedTuple

from counting import Counts
from counting.views import matmul
from minigpt.formulas.claims import GPU, Claim, hold, n
from minigpt.formulas.closed_forms import B, Formulas, H, L, N, T, formulas
from minigpt.formulas.notation import plain
from minigpt.formulas.published import PUBLISHED
from minigpt.models.architectures import PRESETS
from minigpt.models.gpt2_config import GPT2_SIZES
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


def _answer(verdict: str, executed: str, reason: str, *quotes: str) -> Answer:
    return Answer(verdict, quotes, executed, reason)


right, condition, wrong = (partial(_answer, said) for said in ("right", "condition", "wrong"))


LLAMAS: dict[str, Any] = {"8B": PRESETS["llama-3.1-8b"], "405B": PRESETS["llama-3.1-405b"]}
XL = GPT2_SIZES["gpt2-xl"]
CONTEXT = XL.n_positions


@cache
def forms() -> Formulas:
    """The closed forms of GPT-2, with 16-bit elements."""
    return formulas(XL, dtype="float16")


def form(*components: str, view: str = "matmul", per: Any = 1) -> str:
    """The FLOP of components for a token that looks at n keys, as a person writes it."""
    priced = forms().closed_forms["views"][view]["by_component"]
    total = sum(priced[name] for name in components or priced) / per
    return f"`{plain(_of_a_token(total))}`"


def a_head(total: Any) -> Any:
    """One head's part of a count of all layers, for a token that looks at n keys."""
    return _of_a_token(total / (L * H))


def _of_a_token(total: Any) -> Any:
    return total.subs({B: 1, T: 1, N: n - 1}).expand()


def token(config: Any, keys: int = 1) -> Counts:
    """What a token that looks at so many keys costs a model with 16-bit elements."""
    return on_shapes(config, Pass(N=keys - 1)).counts


def a_block(config: Any, *modules: str) -> float:
    """FLOP of the modules of a block in units of d², at one key."""
    counts, d2 = token(config), config.hidden_size**2 * config.num_hidden_layers
    return sum(matmul(counts.where(f"*.{module}")) for module in modules) / d2


@cache
def claims() -> list[Claim]:
    """The article's formulas beside execution, on GPT-2 XL at one key and at its full context."""
    rows = [row for row in PUBLISHED if row.source == "article"]
    return hold(XL, "gpt2-xl", [(1, 0), (1, CONTEXT - 1)], rows)


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

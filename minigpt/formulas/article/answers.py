"""The article "Transformers FLOPS and memory usage", claim by claim, in its order and its words.

What is said of a claim is executed, or comes from the table of hardware.
"""

from minigpt.formulas.article import flop, memory, products
from minigpt.formulas.article.answer import Answer


def answers() -> list[Answer]:
    """Every claim of the article, in its order."""
    return [
        memory.state_of_the_art(),
        flop.what_is_counted(),
        *memory.rates(),
        flop.with_a_cache(),
        *flop.headline(),
        *products.products(),
        flop.sub_blocks(),
        *products.shapes(),
        *flop.a_block_of_gpt2(),
        *flop.other_layers(),
        *flop.table(),
        *memory.hardware(),
        *memory.parameters(),
        *products.attention_of_a_sequence(),
        *memory.kv_cache(),
    ]

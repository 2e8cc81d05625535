"""What is published of the arrays that devices send each other in tensor parallel, as data.

As `published`, in the letters P for the devices, B sequences, T new tokens of each, L layers, d the
width of the model, V the vocabulary; of as much as `verify_wire.MEASURES` says. What is executed is
a forward pass: of formulas for a forward and a backward pass, which sum as often, here is a half.
"""

from functools import partial

from minigpt.formulas.published import SOURCES, Published, Source

SOURCES_OF_THE_WIRE = {
    "kipply": SOURCES["kipply"],
    "Megatron 2019": Source(
        "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism",
        "Shoeybi et al.",
        2019,
        "https://arxiv.org/abs/1909.08053",
    ),
    "Megatron": SOURCES["Megatron"],
    "Megatron 2022": SOURCES["Megatron 2022"],
    "Patarasuk, Yuan": Source(
        "Bandwidth optimal all-reduce algorithms for clusters of workstations",
        "Patarasuk, Yuan",
        2009,
        "https://doi.org/10.1016/j.jpdc.2008.09.002",
    ),
    "MPICH": Source(
        "Optimization of Collective Communication Operations in MPICH",
        "Thakur, Rabenseifner, Gropp",
        2005,
        "https://doi.org/10.1177/1094342005051521",
    ),
}

UNITS_OF_THE_WIRE = {"numbers sent": "", "bytes sent": "B", "additions": "FLOP", "sums": ""}

LAYER = (
    "norms",
    "out",
    "mlp",
    "experts",
    "shared",
    "residual",
)  # of the parts of a model, those that a layer sums

# A source's rows, in the terms that all of them share.
_kipply = partial(Published, "kipply", of="numbers sent", scope="token")
_shoeybi = partial(Published, "Megatron 2019", of="sums", scope="sequence")
_all_of_it = partial(Published, scope="sequence")

OF_THE_WIRE = (
    _kipply(
        "model parallelism: (N-1) d_model/N, of attention's output, and as much again",
        "2*L*(P - 1)*d/P",
        part=("out",),
    ),
    _kipply(
        "model parallelism: 4 · (N-1) d_model/N bytes a layer",
        "4*L*(P - 1)*d/P",
        of="bytes sent",
        part=LAYER,
    ),
    _kipply("the same, if numbers are meant", "4*L*(P - 1)*d/P", part=LAYER),
    _kipply("the same of all N: 4 · (N-1) d_model", "4*L*(P - 1)*d", part=LAYER, per="1/P"),
    _kipply(
        "model parallelism: N · d_model a layer, where pipelines send d_model",
        "L*P*d",
        part=LAYER,
        per="1/P",
    ),
    _kipply(
        "latency: 2 · n_layers · 4 · d_model bytes, N-1 rounded to N", "2*L*4*d", of="bytes sent"
    ),
    _shoeybi("section 3: two all-reduces in the forward path of a layer", "2*L", part=LAYER),
    _shoeybi("section 3: an all-reduce after the input embedding", "1", part=("embed",)),
    _shoeybi(
        "section 3: the all-gather will communicate b · s · v elements",
        "B*T*V",
        of="numbers sent",
        part=("head",),
    ),
    _all_of_it(
        "Megatron",
        "section 3.2: 8 b s h (t-1)/t a layer, forward and backward; its half",
        "4*L*B*T*d*(P - 1)/P",
        of="numbers sent",
        part=LAYER,
    ),
    _all_of_it(
        "Megatron",
        "section 3.2: the same, held against the whole model",
        "4*L*B*T*d*(P - 1)/P",
        of="numbers sent",
    ),
    _all_of_it(
        "Megatron 2022",
        "section 4.2.2: four all-reduces, forward and backward; their half",
        "2*L",
        of="sums",
        part=LAYER,
    ),
    _all_of_it(
        "Patarasuk, Yuan",
        "a ring sends 2 (p-1)/p of what is summed, of rows of the embedding",
        "2*(P - 1)/P*B*T*d",
        of="numbers sent",
        part=("embed",),
    ),
    _all_of_it(
        "MPICH",
        "allreduce of long vectors: additions, (p-1)/p n, in two sums a layer and one",
        "(2*L + 1)*(P - 1)/P*B*T*d",
        of="additions",
    ),
)

"""What is published of the cost of decoders with grouped heads, latents and experts, as data.

As `published`, in the letters of each family, see `symbols`: K, G, H = K G, D; R and D_rope of
latents. Elements are of 2 bytes. `where` names the place in the source; what it writes in its own
letters is n_h = H, n_g = K, d_h = D, d_c = R, d_h^R = D_rope, l = L.
"""

from minigpt.formulas.published import Published, Source

SOURCES_OF_DECODERS = {
    "DeepSeek-V2": Source(
        "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model",
        "DeepSeek-AI",
        2024,
        "https://arxiv.org/abs/2405.04434",
    ),
    "DeepSeek-V3": Source(
        "DeepSeek-V3 Technical Report", "DeepSeek-AI", 2024, "https://arxiv.org/abs/2412.19437"
    ),
    "Llama 3": Source(
        "The Llama 3 Herd of Models", "Llama Team, Meta", 2024, "https://arxiv.org/abs/2407.21783"
    ),
}

OF_DECODERS = (
    Published(
        "PaLM",
        "appendix B: 6N + 12LHQT",
        "6*P + 12*L*H*D*n",
        scope="mean",
        mode="training",
    ),
    Published("DeepSeek-V2", "table 1: MHA, 2 n_h d_h l elements", "2*2*H*D*L", of="kv bytes"),
    Published("DeepSeek-V2", "table 1: GQA, 2 n_g d_h l elements", "2*2*K*D*L", of="kv bytes"),
    Published("DeepSeek-V2", "table 1: MQA, 2 d_h l elements", "2*2*D*L", of="kv bytes"),
    Published(
        "DeepSeek-V2",
        "table 1: MLA, (d_c + d_h^R) l elements",
        "2*(R + D_rope)*L",
        of="kv bytes",
    ),
    # d_c = 4 d_h and d_h^R = d_h / 2 there; d_h is the part of a head without position, D_nope
    Published(
        "DeepSeek-V2", "table 1: MLA, about 9/2 d_h l elements", "2*9*D_nope*L/2", of="kv bytes"
    ),
    *(
        Published(
            "DeepSeek-V3", "abstract: 671B parameters", "671*10**9", of="parameters", model=name
        )
        for name in ("deepseek-v3", "deepseek-r1")
    ),
    # 2.44e12 a token; 6 times its 405e9 parameters are 2.43e12
    Published(
        "Llama 3",
        "introduction: 3.8e25 FLOP for 15.6T tokens of the largest model",
        "38*10**24/(156*10**11)",
        scope="mean",
        mode="training",
        model="llama-3.1-405b",
    ),
)

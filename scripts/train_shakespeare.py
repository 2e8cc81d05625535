"""Trains the shipped model, weights/shakespeare: a small GPT-2 in Hugging Face layout.

    pip install -e '.[train]'
    python scripts/train_shakespeare.py tiny-shakespeare.txt weights/shakespeare

The first 90 % of the text train the tokenizer and the model, the last 10 % are held out.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt.checkpoint.files import check_own, filled
from minigpt.checkpoint.synthetic import FILES
from minigpt.errors import InputError
from minigpt.storage import reading
from minigpt.storage.files import reason
from minigpt.storage.outputs import check_apart

CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "vocab_size": 1024,
    "n_positions": 256,
    "n_embd": 256,
    "n_layer": 6,
    "n_head": 8,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": True,
    "torch_dtype": "float16",
}
END_OF_TEXT = "<|endoftext|>"
BPE_DROPOUT = 0.1  # merges skipped at random: every epoch reads the text in other tokens


class Block(nn.Module):
    def __init__(self, n_embd: int, n_head: int, dropout: float) -> None:
        super().__init__()
        self.n_head = n_head
        self.ln_1, self.ln_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(n_embd, 3 * n_embd), "c_proj": nn.Linear(n_embd, n_embd)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(n_embd, 4 * n_embd), "c_proj": nn.Linear(4 * n_embd, n_embd)}
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.attn["c_attn"](self.ln_1(x)).unflatten(-1, (3, self.n_head, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.drop(self.attn["c_proj"](y.transpose(1, 2).flatten(2)))
        hidden = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.drop(self.mlp["c_proj"](hidden))


class GPT2(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        n_embd = CONFIG["n_embd"]
        self.wte = nn.Embedding(CONFIG["vocab_size"], n_embd)
        self.wpe = nn.Embedding(CONFIG["n_positions"], n_embd)
        self.h = nn.ModuleList(
            Block(n_embd, CONFIG["n_head"], dropout) for _ in range(CONFIG["n_layer"])
        )
        self.ln_f = nn.LayerNorm(n_embd)
        self.drop = nn.Dropout(dropout)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                deep = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.h) if deep else 1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.drop(self.wte(tokens) + self.wpe.weight[: tokens.shape[1]])
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


def train_tokenizer(text: str) -> Tokenizer:
    """A byte-level BPE tokenizer like GPT-2's, learned from `text`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def nats_per_character(model: GPT2, tokens: Tensor, characters: int) -> float:
    """The loss of `tokens` in nats, summed, by characters.

    Windows of the whole context overlap by half, so every token past the first window is
    predicted from at least half a context.
    """
    model.eval()
    context = CONFIG["n_positions"]
    total, scored = 0.0, 1
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, context // 2):
            window = tokens[start : start + context + 1]
            losses = F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="none")
            total += losses[scored - start - 1 :].sum().item()
            scored = start + len(window)
    model.train()
    return total / characters


def save(model: GPT2, config: dict[str, Any], tokenizer: str, folder: Path) -> None:
    """Puts the model into `folder` in Hugging Face layout: matrices as (in, out), the head tied.

    Raises:
        InputError: there are files of another model in it.
    """
    tensors = {}
    for name, parameter in model.state_dict().items():
        linear = parameter.ndim == 2 and name.startswith("h.")
        tensors[name] = (parameter.T if linear else parameter).to(torch.float16).contiguous()
    with filled(folder, FILES) as part:
        (part / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (part / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    try:
        check_apart([args.folder / name for name in FILES], [args.text])
        check_own(args.folder, FILES)
        try:
            text = reading.text(args.text)
        except (OSError, ValueError) as error:
            raise InputError(f"{args.text} cannot be read: {reason(error)}") from None
    except InputError as error:
        print(f"train_shakespeare: {error}", file=sys.stderr)
        return 2
    split = len(text) * 9 // 10
    training, held_out = text[:split], text[split:]
    tokenizer = train_tokenizer(training)
    end_of_text = tokenizer.token_to_id(END_OF_TEXT)
    config = CONFIG | {"bos_token_id": end_of_text, "eos_token_id": end_of_text}
    saved = tokenizer.to_str(pretty=True)
    held_out_tokens = torch.tensor(tokenizer.encode(held_out).ids)
    tokenizer.model.dropout = BPE_DROPOUT  # from here on, for training only

    torch.manual_seed(args.seed)
    model = GPT2(args.dropout)
    # Muon for the matrices of the blocks, AdamW for embeddings, biases and norms.
    matrices = [p for p in model.h.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim == 1]
    optimizers = [
        torch.optim.Muon(matrices, lr=3e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            [
                {"params": [model.wte.weight, model.wpe.weight]},
                {"params": others, "weight_decay": 0},
            ],
            lr=3e-3,
            betas=(0.9, 0.98),
            weight_decay=0.1,
        ),
    ]
    schedules = [  # a linear warm-up, then a cosine to zero
        torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / 100, 0.5 + 0.5 * math.cos(math.pi * step / args.steps)),
        )
        for optimizer in optimizers
    ]
    context, began = CONFIG["n_positions"], time.perf_counter()
    tokens, seen = torch.empty(0, dtype=torch.long), 0
    for step in range(args.steps):
        if seen >= len(tokens):
            tokens, seen = torch.tensor(tokenizer.encode(training).ids), 0
        starts = torch.randint(len(tokens) - context, (args.batch, 1))
        windows = tokens[starts + torch.arange(context + 1)]
        seen += args.batch * context
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepped in (*optimizers, *schedules):
            stepped.step()
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            nats = nats_per_character(model, held_out_tokens, len(held_out))
            minutes = (time.perf_counter() - began) / 60
            print(
                f"step {step + 1}/{args.steps}  training loss {loss.item():.3f} nats a token  "
                f"held out {nats:.4f} nats a character  {minutes:.1f} min",
                flush=True,
            )
            save(model, config, saved, args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

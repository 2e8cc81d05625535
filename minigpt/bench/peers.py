"""The peers as engines, each by the road that costs it least; imported in a worker only."""

import json
from collections.abc import Callable
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.bench.engines import Generate
from minigpt.errors import InputError


def transformers(folder: Path, dtype: str, threads: int, context: int, batch: int) -> Generate:
    """PyTorch's eager model with its own choice of attention, past `generate` and its costs."""
    from minigpt.formulas.other_counters import cache_name

    torch: Any = import_module("torch")
    library: Any = import_module("transformers")
    torch.set_num_threads(threads)
    load = library.AutoModelForCausalLM.from_pretrained
    model = load(folder, dtype=getattr(torch, dtype), local_files_only=True).eval()
    cache = cache_name(model)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(prompts: list[list[int]], new: int, mark: Callable[[], None]) -> list[list[int]]:
        fed, tokens, past = torch.tensor(prompts), [], None
        for _ in range(new):
            out = model(fed, **{cache: past}, use_cache=True, logits_to_keep=1)
            past, fed = out[cache], out.logits.argmax(-1)  # (B, 1, V)
            tokens.append(fed)
            mark()
        return torch.cat(tokens, 1).tolist()

    return generate


def llama_cpp(folder: Path, dtype: str, threads: int, context: int, batch: int) -> Generate:
    """llama.cpp by its C functions: the binding's own loop copies and sorts logits."""
    from minigpt.bench.convert import gguf_file

    llama: Any = import_module("llama_cpp")
    file = gguf_file(folder, dtype)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = context * batch
    options.n_seq_max = batch
    options.n_threads = options.n_threads_batch = threads
    state = model and llama.llama_init_from_model(model, options)
    if not state:
        raise InputError(f"llama.cpp cannot load {file}")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    given = llama.llama_batch_init(options.n_batch, 0, 1)

    def likeliest(fed: list[list[int]], past: int) -> list[list[int]]:
        """The token after each sequence, one more in a list of its own."""
        last = len(fed[0]) - 1
        for i, (k, j) in enumerate(product(range(len(fed)), range(last + 1))):
            given.token[i], given.pos[i], given.logits[i] = fed[k][j], past + j, j == last
            given.n_seq_id[i], given.seq_id[i][0] = 1, k
        given.n_tokens = i + 1
        if llama.llama_decode(state, given):
            raise InputError("llama.cpp cannot run the model")
        ends = range(last, given.n_tokens, last + 1)
        logits = (llama.llama_get_logits_ith(state, end) for end in ends)
        return [[int(np.ctypeslib.as_array(one, (vocabulary,)).argmax())] for one in logits]

    def generate(prompts: list[list[int]], new: int, mark: Callable[[], None]) -> list[list[int]]:
        llama.llama_memory_clear(llama.llama_get_memory(state), True)
        tokens: list[list[int]] = [[] for _ in prompts]
        fed, past = prompts, 0
        for _ in range(new):
            fed, past = likeliest(fed, past), past + len(fed[0])
            for said, token in zip(tokens, fed, strict=True):
                said += token
            mark()
        return tokens

    return generate


def ctranslate2(folder: Path, dtype: str, threads: int, context: int, batch: int) -> Generate:
    """CTranslate2's generator, greedy."""
    from minigpt.bench.convert import ctranslate2_folder

    library: Any = import_module("ctranslate2")
    path = ctranslate2_folder(folder, dtype)
    generator = library.Generator(str(path), compute_type=dtype, intra_threads=threads)
    vocabulary = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))

    def generate(prompts: list[list[int]], new: int, mark: Callable[[], None]) -> list[list[int]]:
        def step(result: Any) -> bool:
            if result.batch_id == 0:
                mark()
            return False

        results = generator.generate_batch(
            [[vocabulary[token] for token in prompt] for prompt in prompts],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=step,
        )
        return [result.sequences_ids[0] for result in results]

    return generate

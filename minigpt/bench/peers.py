"""The peers as engines, each by the road that costs it least; imported in a worker only."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.bench.engines import Generate
from minigpt.errors import InputError


def transformers(folder: Path, dtype: str, threads: int, context: int) -> Generate:
    """PyTorch's eager model with its own choice of attention, past `generate` and its costs."""
    from minigpt.formulas.other_counters import cache_name

    torch: Any = import_module("torch")
    library: Any = import_module("transformers")
    torch.set_num_threads(threads)
    load = library.AutoModelForCausalLM.from_pretrained
    model = load(folder, dtype=getattr(torch, dtype), local_files_only=True).eval()
    cache = cache_name(model)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def generate(prompt: list[int], new: int, mark: Callable[[], None]) -> list[int]:
        tokens: list[int] = []
        past = None
        for _ in range(new):
            fed = torch.tensor([tokens[-1:] or prompt])
            out = model(fed, **{cache: past}, use_cache=True, logits_to_keep=1)
            past = out[cache]
            tokens.append(int(out.logits[0, -1].argmax()))
            mark()
        return tokens

    return generate


def llama_cpp(folder: Path, dtype: str, threads: int, context: int) -> Generate:
    """llama.cpp by its C functions: the binding's own loop copies and sorts logits."""
    from minigpt.bench.convert import gguf_file

    llama: Any = import_module("llama_cpp")
    file = gguf_file(folder, dtype)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(str(file).encode(), llama.llama_model_default_params())
    options = llama.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = context
    options.n_threads = options.n_threads_batch = threads
    state = model and llama.llama_init_from_model(model, options)
    if not state:
        raise InputError(f"llama.cpp cannot load {file}")
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def generate(prompt: list[int], new: int, mark: Callable[[], None]) -> list[int]:
        llama.llama_memory_clear(llama.llama_get_memory(state), True)
        tokens: list[int] = []
        for _ in range(new):
            given = tokens[-1:] or prompt
            fed = (llama.llama_token * len(given))(*given)  # the batch only points to it
            if llama.llama_decode(state, llama.llama_batch_get_one(fed, len(fed))):
                raise InputError("llama.cpp cannot run the model")
            logits = llama.llama_get_logits_ith(state, -1)
            tokens.append(int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax()))
            mark()
        return tokens

    return generate


def ctranslate2(folder: Path, dtype: str, threads: int, context: int) -> Generate:
    """CTranslate2's generator, greedy."""
    from minigpt.bench.convert import ctranslate2_folder

    library: Any = import_module("ctranslate2")
    path = ctranslate2_folder(folder, dtype)
    generator = library.Generator(str(path), compute_type=dtype, intra_threads=threads)
    vocabulary = json.loads((path / "vocabulary.json").read_text(encoding="utf-8"))

    def generate(prompt: list[int], new: int, mark: Callable[[], None]) -> list[int]:
        def step(result: Any) -> bool:
            mark()
            return False

        [result] = generator.generate_batch(
            [[vocabulary[token] for token in prompt]],
            max_length=new,
            min_length=new,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=step,
        )
        return result.sequences_ids[0]

    return generate

"""Inputs that a stranger could hand in, drawn by mutation, and what each kind is given to."""

BYTES = ("config", "tokenizer", "beside", "safetensors", "index", "gpu")  # files as they are
FILES = (*BYTES, "recording", "pack")
NAMES = (*FILES, "command", "call", "counting")

"""Inputs that a stranger could hand in, drawn by mutation, and what each kind is given to."""

FILES = ("config", "tokenizer", "beside", "safetensors", "index", "gpu", "recording", "pack")
NAMES = (*FILES, "command", "call")

"""From names and files to tensors: where a model's files are, what they hold, its tokenizer."""

"""What `gpu_check.py` measures on a GPU: a file for each kind of question."""

"""The article "Transformers FLOPS and memory usage", claim by claim, answered by execution."""

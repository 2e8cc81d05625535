"""What a recording looks like: one file for each way. None of them records or runs anything."""

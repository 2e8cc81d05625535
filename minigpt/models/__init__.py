"""The forward passes, pages to read aloud, and a configuration beside each."""

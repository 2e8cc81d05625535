"""What the commands print, one module a command: text for a terminal, and JSON."""

"""`python -m minigpt`: the command."""

from minigpt.cli import main

main()

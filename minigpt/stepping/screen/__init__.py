"""The full screen of `minigpt step --tui`: a process that computes, and panels that show it."""

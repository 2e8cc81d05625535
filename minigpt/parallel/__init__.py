"""One model on several devices: each runs the same code on its part, and all add up."""

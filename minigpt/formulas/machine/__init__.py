"""What a pass was counted to cost, held against the instructions that the processor executed."""

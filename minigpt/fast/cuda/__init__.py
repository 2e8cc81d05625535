"""A decode step on an NVIDIA GPU as jobs that one kernel replays, a block on each multiprocessor.

Whoever generates text needs `replayed(model, weights, device)` alone: what runs passes as the model
does, decode steps by these kernels where all of a step is known to them. To look at one step:

    kernels = compiled()                      # `launch.Kernels`: compiled for the GPU that is here
    fast = replayed(model, weights, kernels)  # one token of one sequence at a time is fast
    logits = fast(tokens, cache)              # tokens (1, 1): recorded at first, then replayed
    step = fast.step(cache)                   # `step.Step`, or None where the model's own code runs
    step.jobs                                 # what each does: structure, fields
    step.run(tokens, cache)                   # the whole step: one cooperative launch
    step.launch(n, first, count)              # these jobs alone, at position n
    step.phases                               # [(first, count), …]: between them all blocks meet
    step.graph()                              # these launches as a captured graph: `.launch()`

Counts come from the recorded code of the model, never from kernels.
"""

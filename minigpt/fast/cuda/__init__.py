"""A decode step on an NVIDIA GPU as jobs that one kernel replays, a block on each multiprocessor.

Whoever generates text asks for `load(…, device="cuda", dtype="float16", engine="fast")` alone. To
look at one step:

    kernels = launch.Compiled()                 # for the GPU that is here, by NVRTC
    fast = step.Fast(model, weights, kernels)   # weights as `device.Cuda(…, "fast").hold` puts them
    logits = fast(tokens, cache)                # tokens (1, 1): recorded at first, then replayed
    one = fast.step(cache)                      # the `step.Step`; None where the code itself runs
    one.jobs                                    # of each: structure, fields, what it touches
    one.run(tokens, cache)                      # the whole step, in one cooperative launch
    one.launch(n, first, count)                 # these jobs alone, at position n
    one.phases                                  # [(first, count), …]: between them all blocks meet
    one.graph().launch()                        # a launch for each phase, as a captured graph

Each kind of job is a structure in the kernels' source, which Python reads for the order of its
words (`source`, `job`). A step is recorded on the tape of the CPU's pool (`tape`), joined into
fewer jobs by address (`fusing`) and laid out on the GPU (`step`). Counts come from the recorded
code of the model, never from kernels.
"""

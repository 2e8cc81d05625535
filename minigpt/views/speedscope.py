"""A recording as a profile for speedscope, operation by operation, in the order of the run."""

import json
from pathlib import Path

from minigpt.recording.read import Recording
from minigpt.version import version
from minigpt.views.options import ViewOptions
from minigpt.views.stacks import weighed

SCHEMA = "https://www.speedscope.app/file-format-schema.json"
UNITS = {"flops": "none", "bytes": "bytes", "seconds": "nanoseconds"}


def write(recording: Recording, path: Path, options: ViewOptions) -> None:
    """Writes one profile, whose samples are the operations that weigh anything.

    Raises:
        InputError: the recording does not say what they weigh.
    """
    frames: dict[str, int] = {}
    samples, weights = [], []
    for stack, weight in weighed(recording, options.weight):
        if weight:
            samples.append([frames.setdefault(name, len(frames)) for name in stack])
            weights.append(weight)
    profile = {
        "type": "sampled",
        "name": f"{recording.header['model']}: {options.weight}",
        "unit": UNITS[options.weight],
        "startValue": 0,
        "endValue": sum(weights),
        "samples": samples,
        "weights": weights,
    }
    whole = {
        "$schema": SCHEMA,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": [profile],
        "name": recording.header["model"],
        "exporter": f"minigpt {version()}",
    }
    path.write_text(json.dumps(whole), encoding="utf-8")

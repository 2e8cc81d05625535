"""Makes minigpt/views/vega: Vega-Lite in one script, and the licences of all that is in it.

    pip install vl-convert-python==1.9.0.post1, and npm, which has the licences

The pages carry both, so that they are drawn without a network and may be handed on.
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import vl_convert

FOLDER = Path(__file__).parents[1] / "minigpt" / "views" / "vega"


def versions() -> dict[str, str]:
    """The packages that the script is made of, each with its version."""
    lite = vl_convert.get_vegalite_versions()[-1]
    return {
        "vega": vl_convert.get_vega_version(),
        "vega-lite": f"~{lite}.0",
        "vega-embed": vl_convert.get_vega_embed_version(),
        "lodash.debounce": "^4",
    }


def licences(folder: Path) -> str:
    """The licences of packages, and of those they need, each text once under those it is of."""
    wanted = [f"{name}@{version}" for name, version in versions().items()]
    npm = ["npm", "install", "--ignore-scripts", "--no-save", "--prefix", str(folder), *wanted]
    subprocess.run(npm, check=True, stdout=subprocess.DEVNULL)
    texts = defaultdict[str, list[str]](list)
    for about in sorted(folder.glob("node_modules/**/package.json")):
        files = sorted(about.parent.glob("[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*"))
        said = json.loads(about.read_text(encoding="utf-8"))
        if "version" in said and (files or "license" in said):
            text = files[0].read_text(encoding="utf-8").strip() if files else said["license"]
            texts[text].append(f"{said['name']} {said['version']}")
    rule = "-" * 80
    parts = (f"{', '.join(names)}\n\n{text}\n" for text, names in texts.items())
    return f"\n{rule}\n".join(["What vega.js is made of, and what that may need.\n", *parts])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "vega.js").write_text(vl_convert.javascript_bundle(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        (FOLDER / "LICENSE").write_text(licences(Path(folder)), encoding="utf-8")

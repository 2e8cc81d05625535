"""The notebooks of docs/notebooks, run from the top, with what they show stored in them.

python scripts/notebooks.py [NAME ...]
"""

import argparse
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook whose cells were run anew, one after another.

    Raises:
        nbclient.exceptions.CellExecutionError: one of them raises, an assertion that fails too.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for cell in notebook.cells:
        cell.metadata = {}  # the times at which it ran
    return notebook


def main() -> None:
    known = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"))}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join(known))
    names = parser.parse_args().names or [*known]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no notebook {unknown[0]}: there are {', '.join(known)}")
    for name in names:
        nbformat.write(executed(known[name]), known[name])
        print(f"{known[name].name}: {known[name].stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

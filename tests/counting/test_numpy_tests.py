"""The figures of docs/numpy-tests.md are those of a run."""

import re
import sys

import numpy as np
import pytest
from checkpoints import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import numpy_tests

WRITTEN = (ROOT / "docs" / "numpy-tests.md").read_text(encoding="utf-8")
VERSION = re.search(r"NumPy (\d+\.\d+\.\d+)", WRITTEN)[1]


@pytest.mark.skipif(np.__version__ != VERSION, reason=f"the figures are those of NumPy {VERSION}")
@pytest.mark.parametrize("file", ["lib.tests.test_twodim_base", "lib.tests.test_arraysetops"])
def test_a_file_of_numpys_tests_ends_as_written(file):
    found = numpy_tests.outcomes(file)
    wrong = "\n".join(name for name, (how, _) in found.items() if how == "wrong")
    assert numpy_tests.row(file, found) in WRITTEN, wrong


def test_every_file_has_its_figures_and_they_add_up():
    for file in numpy_tests.FILES:
        (row,) = re.findall(rf"^\| `{re.escape(file)}` \|(.*)\|$", WRITTEN, re.M)
        plainly, passed, refused, wrong = map(int, row.split("|"))
        assert plainly == passed + refused + wrong
    totals = re.search(r"^\| all \|(.*)\|$", WRITTEN, re.M)[1]
    rows = re.findall(r"^\| `[\w.]+` \|(.*)\|$", WRITTEN, re.M)
    columns = zip(*(map(int, row.split("|")) for row in rows), strict=True)
    assert [*map(sum, columns)] == [*map(int, totals.split("|"))]

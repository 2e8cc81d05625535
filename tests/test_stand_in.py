"""Where the stand-in for CuPy differs from it, as docs/cupy.md says."""

import re

import numpy as np
import pytest
from checkpoints import ROOT
from gpu import stand_in  # noqa: F401

PAGE = (ROOT / "docs" / "cupy.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(.+?)` \| .+ \| `(.+?)`", PAGE.partition("## Where")[2], re.MULTILINE)


def test_the_table_is_read():
    assert len(ROWS) > 8


@pytest.mark.parametrize(("expression", "says"), ROWS)
def test_the_stand_in_differs_as_is_written(cupy, expression, says):
    from counting.cupy_memory import Pool

    def hidden(function, *args, **options):
        with Pool() as pool:
            result = function(*args, **options)
            return pool.peak - result.nbytes

    known = {"cupy": cupy, "np": np, "hidden": hidden}
    known |= {"x": cupy.array([1.0, 2.0, 3.0]), "i": cupy.array([2])}
    if says.endswith("Error"):
        with pytest.raises(Exception) as raised:  # noqa: PT011
            eval(expression, known)
        assert raised.type.__name__ == says
    else:
        assert repr(eval(expression, known)) == says

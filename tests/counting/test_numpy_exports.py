"""What NumPy exports is counted, or makes nothing that counts, or is refused with a way out."""

import inspect
import re
from types import FunctionType, ModuleType

import numpy as np
import pytest

from counting import COSTS, Counted, Ledger, Uncounted, uncounted
from counting.names import SUBSTITUTES
from counting.twins import code_of

MODULES = {"": np, "linalg.": np.linalg, "fft.": np.fft}
EXPORTS = {
    f"{before}{name}": getattr(module, name)
    for before, module in MODULES.items()
    for name in getattr(module, "__all__", dir(module))
    if not name.startswith("_")
}

# Why, and what works instead; `x` is a counted array of whole numbers.
REFUSED = {
    "gcd": ("Euclid's steps depend on the numbers", "np.gcd(x.data, 2)"),
    "lcm": ("so do those of the least common multiple", "np.lcm(x.data, 2)"),
    "packbits": ("bits in a byte are no numbers that are counted", "np.packbits(x.data > 2)"),
    "unpackbits": ("so are those taken out", "np.unpackbits(x.data.astype('u1'))"),
    "array2string": ("a text, in which values leave", "np.array2string(x.data)"),
    "array_repr": ("so do they here", "np.array_repr(x.data)"),
    "array_str": ("and here", "np.array_str(x.data)"),
    "save": ("a file, in which values leave", "np.save(file, x.data)"),
    "savetxt": ("so do they here", "np.savetxt(file, x.data)"),
    "savez": ("and here", "np.savez(file, x.data)"),
    "savez_compressed": ("and here", "np.savez_compressed(file, x.data)"),
    "frombuffer": ("another array of the same memory", "np.frombuffer(x.data)"),
    "from_dlpack": ("so is this", "np.from_dlpack(x.data)"),
    "fromiter": ("Python's numbers, one by one", "np.fromiter(x.tolist(), int)"),
    "nested_iters": ("windows on elements", "np.nested_iters(x.data.reshape(2, 2), [[0], [1]])"),
    "nditer": ("so are these", "np.nditer(x.data)"),
    "matrix": ("its operators mean something else", "np.matrix(x.data)"),
    "asmatrix": ("so do those of this", "np.asmatrix(x.data)"),
    "memmap": ("a file", "np.asarray(x.data)"),
    "recarray": ("it makes fields of an array's memory", "x.data.view(np.recarray)"),
}

DATES = {"busday_count", "busday_offset", "datetime_as_string", "datetime_data", "is_busday"}
DATES |= {"isnat", "busdaycalendar"}  # are no numbers that are counted
NO_ARRAYS = {"promote_types", "test", "fromfile", "fromstring"}  # they are given none


def is_counted(x):
    """Whether it has a row, is Python code over what has one, or is known otherwise."""
    if isinstance(x, FunctionType):
        return True
    try:
        if x in SUBSTITUTES or x in COSTS:
            return True
    except TypeError:
        return False
    return code_of(x) is not None


def is_no_function(x):
    """Whether it is a module, a value, or a class that says what numbers are."""
    if isinstance(x, ModuleType) or not callable(x):
        return True
    return isinstance(x, type)


def test_every_export_is_counted_or_has_a_reason():
    others = REFUSED.keys() | DATES | NO_ARRAYS
    for name, x in EXPORTS.items():
        assert is_counted(x) or is_no_function(x) or name in others, name
    assert others <= EXPORTS.keys()
    counted = [x for x in EXPORTS.values() if is_counted(x)]
    assert len(counted) > 400


FILES = ("save", "savetxt", "savez", "savez_compressed")


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("name", [name for name in REFUSED if name not in ("memmap", "recarray")])
def test_what_is_refused_is_refused_and_its_way_out_works(name, tmp_path):
    x, file = Counted(np.array([2, 4, 6, 8]), Ledger()), tmp_path / "file"
    function = EXPORTS[name]
    args = {"gcd": (x, 2), "lcm": (x, 2), "fromiter": (x, int), "nested_iters": (x, [[0]])}
    args |= {"packbits": (x > 2,), "unpackbits": (x.astype("u1"),)}
    given = (file, x) if name in FILES else args.get(name, (x,))
    before = x.ledger.snapshot()
    with pytest.raises((TypeError, ValueError, AttributeError)) as refusal:
        function(*given)
    cost = (x.ledger.snapshot() - before).cost
    assert cost.flops == 0
    if isinstance(refusal.value, Uncounted):
        assert re.search(r"x\.|`with counting\.uncounted\(\):`", str(refusal.value))
        with uncounted():
            function(*given)
    eval(REFUSED[name][1], {"np": np, "x": x, "file": file})


@pytest.mark.parametrize("name", ["memmap", "recarray"])
def test_so_is_what_makes_classes_of_its_own(name):
    x = Counted(np.array([2, 4, 6, 8]), Ledger())
    eval(REFUSED[name][1], {"np": np, "x": x})


def test_methods_of_arrays_are_counted_or_refused():
    """None is missing: what is refused says where it is."""
    public = {name for name in dir(np.ndarray) if not name.startswith("_")}
    x = Counted(np.array([2.0, 4.0]), Ledger())
    for name in public:
        try:
            found = inspect.getattr_static(type(x), name)
        except AttributeError:
            found = getattr(x, name)  # a slot
        assert found is not None
    refused = {name for name in public if type(vars(Counted).get(name)).__name__ == "_Refused"}
    assert refused <= {
        "byteswap", "ctypes", "device", "dump", "dumps", "getfield", "resize", "setfield",
        "setflags", "to_device", "tobytes", "tofile",
        "itemset", "newbyteorder", "tostring",  # of older versions
    }  # fmt: skip
    for name in refused:
        with pytest.raises(AttributeError, match=rf"x\.data\.{name}"):
            getattr(x, name)

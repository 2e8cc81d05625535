"""What tests of formulas share."""

import pytest

from minigpt.formulas import claims, closed_forms


@pytest.fixture
def forgotten():
    """Closed forms that are found within a test, of costs that it changes, are not kept."""
    yield
    for function in (closed_forms.formulas, closed_forms.of_pass, closed_forms._run):
        function.cache_clear()
    claims._in_terms.cache_clear()

"""Errors of tensor products, and what they may be."""

import pytest

EXACT = 1e-10  # relative, in double precision
APPROXIMATE = 0.1  # for operators that say that they are


@pytest.fixture
def check(record_property):
    """Assert that an error is as small as an operator says that is exact or that is not."""

    def run(what, found, exact=True):
        record_property(what, f"{found:.1e}")
        assert found < EXACT if exact else EXACT < found < APPROXIMATE

    return run

import threading
import time

import pytest

from mlip.data.prefetch import prefetched
from mlip.errors import MlipError


def test_an_exception_in_the_background_reaches_the_consumer():
    def broken():
        yield 1
        raise MlipError("disk on fire")

    stream = prefetched(broken())
    assert next(stream) == 1
    with pytest.raises(MlipError, match="disk on fire"):
        next(stream)


def test_the_background_runs_only_a_few_items_ahead_and_stops_with_the_consumer():
    made = []

    def endless():
        while True:
            made.append(len(made))
            yield made[-1]

    before = threading.active_count()
    stream = prefetched(endless())
    assert next(stream) == 0
    time.sleep(0.2)
    assert len(made) <= 5
    stream.close()
    assert threading.active_count() == before

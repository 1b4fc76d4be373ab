"""A disk that fills up, without one."""

import resource
import sys
from contextlib import contextmanager


@contextmanager
def file_size_limit(size):
    """Gives a function from whose call on no file grows beyond `size` bytes, as on a full disk.

    Python would cut off the bytecode that it keeps of modules, and not notice: it keeps none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    keeps_none = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = keeps_none


@contextmanager
def largest_file(size):
    """No file may grow beyond a size, from the start."""
    with file_size_limit(size) as begin:
        begin()
        yield

"""Stand-ins of what numpy's numbers and arrays are made of in a pickle (`restricted_pickle`)."""

from __future__ import annotations

import pickle
from typing import Any, NoReturn

import numpy as np


class Sealed(type):
    """A class whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"the pickle sets {name} of a class")


class DType(metaclass=Sealed):
    """Stand-in of `numpy.dtype`, of numbers only."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: str, *_: Any) -> None:
        self._code = code
        self._order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = ">" if state[1] == ">" else "<"

    def numpy(self) -> np.dtype:
        """The type itself."""
        dtype = np.dtype(f"{self._order}{self._code}")
        if dtype.kind not in "biufSU":
            raise pickle.UnpicklingError(f"an array of type {dtype}, expected numbers")
        return dtype


class Array(metaclass=Sealed):
    """Stand-in of `numpy.ndarray`.

    Args:
        data: its bytes.
        dtype: of its numbers.
        shape: of the array.
        order: "C" or "F".
    """

    __slots__ = ("_data", "_dtype", "_fortran", "shape")

    def __init__(self, data: bytes, dtype: DType, shape: tuple[int, ...], order: str) -> None:
        self.__setstate__((1, shape, dtype, order == "F", data))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self._dtype, self._fortran, self._data = state

    def numpy(self) -> np.ndarray:
        """The array itself."""
        flat = np.frombuffer(self._data, self._dtype.numpy())
        return flat.reshape(self.shape, order="F" if self._fortran else "C")

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.numpy(), dtype)


class EmptyArray(Array):
    """Stand-in of `_reconstruct`: an array whose content follows."""

    __slots__ = ()

    def __init__(self, kind: type, shape: tuple[int, ...], code: bytes) -> None:
        super().__init__(b"", DType("b"), (0,), "C")


class Scalar(Array):
    """Stand-in of a number: an array without axes."""

    __slots__ = ()

    def __init__(self, dtype: DType, data: bytes) -> None:
        super().__init__(data, dtype, (), "C")


CORES = ("numpy.core", "numpy._core")  # numpy 1 and 2
GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): DType,
    ("numpy", "ndarray"): Array,
    **{(f"{core}.multiarray", "scalar"): Scalar for core in CORES},
    **{(f"{core}.multiarray", "_reconstruct"): EmptyArray for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): Array for core in CORES},
}

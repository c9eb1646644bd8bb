"""Arrays of a ``.npz`` file, read one by one, by names that are known, after their sizes have been checked.

Nothing is believed before it is read.  The header of an array says its type and shape; both must be the expected ones,
and since members must lie in the file uncompressed, as ``numpy.savez`` writes them, no array can be larger than the
file.  Members that nobody asks for are never opened.

Every complaint is a ``ValueError`` with what was expected and what was received; :func:`ocp_nn.load` adds the name of
the file.
"""

from __future__ import annotations

import ast
import hashlib
import math
import struct
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

__all__ = ["Archive", "digest"]

Array = NDArray[np.float64]
Shape = tuple[int, ...]

_NATIVE = np.dtype(float)


def digest(array: NDArray[np.generic]) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of an array's content."""
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


class Archive:
    """A ``.npz`` file that is open for reading.

    Parameters
    ----------
    file : binary file

    Attributes
    ----------
    digests : mapping
        Check sums by name, :func:`digest`; an array that has one here must match it.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.digests: Mapping[str, str] = {}
        self._size = file.seek(0, 2)
        self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        self._members = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self._members) < len(members):
            raise ValueError(f"{len(members)} arrays have {len(self._members)} names between them")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def shape(self, name: str) -> Shape:
        """The shape of an array, from its header."""
        return self._header(name)[0]

    def floats(self, name: str, shape: Shape, *, finite: bool = True) -> Array:
        """Double precision numbers of this very shape; finite, unless they need not be."""
        found, dtype = self._header(name)
        if dtype.newbyteorder("=") != _NATIVE or found != shape:
            raise ValueError(f"array {name!r} holds {dtype} of shape {found}, expected float64 of shape {shape}")
        array = self._read(name).astype(_NATIVE, copy=False)
        if finite and not np.isfinite(array).all():
            raise ValueError(f"array {name!r} holds {array[~np.isfinite(array)][0]}, expected finite numbers")
        return np.ascontiguousarray(array)

    def words(self, name: str, shape: Shape) -> NDArray[np.str_]:
        """Text of this very shape."""
        found, dtype = self._header(name)
        if dtype.kind != "U" or found != shape:
            raise ValueError(f"array {name!r} holds {dtype} of shape {found}, expected text of shape {shape}")
        return self._read(name)

    def _member(self, name: str) -> zipfile.ZipInfo:
        if name not in self._members:
            raise ValueError(f"array {name!r} is missing")
        member = self._members[name]
        whole = member.header_offset + member.compress_size <= self._size
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size or not whole:
            raise ValueError(
                f"array {name!r} is compressed or longer than the file, expected it as numpy.savez writes it"
            )
        return member

    def _header(self, name: str) -> tuple[Shape, np.dtype[Any]]:
        """Shape and type, where the length of the member is what they say."""
        member = self._member(name)
        with self._zip.open(member) as file:
            version = npy.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"array {name!r} has a header of version {version}, expected (1, 0)")
            start = file.tell()
            _check_literal(name, file)
            file.seek(start)
            shape, _, dtype = npy.read_array_header_1_0(file)
            length = file.tell() + dtype.itemsize * math.prod(shape)
        if dtype.hasobject or member.file_size != length:
            raise ValueError(f"array {name!r} has {member.file_size} bytes where {dtype} of shape {shape} is announced")
        return shape, dtype

    def _read(self, name: str) -> NDArray[Any]:
        with self._zip.open(self._members[name]) as file:
            array = npy.read_array(file, allow_pickle=False)
            file.read()  # the check sum of the member is looked at where it ends
        if self.digests.get(name, digest(array)) != digest(array):
            raise ValueError(f"array {name!r} is not the one that was saved: its check sum differs")
        return array


def _check_literal(name: str, file: IO[bytes]) -> None:
    """Refuse a header that is no Python literal: NumPy would try it as one of Python 2, and fail or warn on the way."""
    (length,) = struct.unpack("<H", file.read(2))
    try:
        ast.literal_eval(file.read(length).decode("latin1"))
    except SyntaxError:
        raise ValueError(f"array {name!r} has a header that cannot be read") from None

"""The lines of a text file, or one sentence about why it is none."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from .dataset import DataError

__all__ = ["lines"]

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


def lines(path: Path) -> list[tuple[int, str]]:
    """Line numbers (from 1) and texts of the lines that are not blank; what ends in ``.gz`` is unpacked first.

    Raises
    ------
    DataError
        If the file cannot be read, or is not text in UTF-8.
    """
    text = _text(path, _content(path)).replace("\r\n", "\n").replace("\r", "\n")
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _content(path: Path) -> bytes:
    if path.exists() and not (path.is_file() or path.is_fifo()):
        raise DataError(f"{path}: {'a folder' if path.is_dir() else 'a device'}, expected a file with a table")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        raise DataError(f"{path}: not packed by gzip, although its name ends in .gz") from None


def _text(path: Path, content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            raise DataError(f"{path}: text in {encoding}, expected UTF-8; export the table as CSV in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 (byte {error.start}); export the table as CSV in UTF-8") from None
    if "\0" in text:
        raise DataError(f"{path}: not text (byte {content.index(0)} is zero); export the table as CSV in UTF-8")
    return text

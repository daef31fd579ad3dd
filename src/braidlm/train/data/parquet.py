"""Reader of Parquet files: ranges of row groups, and the rows in them."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ...errors import not_installed
from .recipe import Record, record_of

_ROWS = 1000  # at a time


def ranges(path: Path, field: str, size: int) -> tuple[list[tuple[int, int, int, int]], str]:
    """Ranges of about `size` bytes as (first row group, end, first row, bytes), and what is wrong with the file."""
    pa = _library()
    found: list[tuple[int, int, int, int]] = []
    try:
        with pa.parquet.ParquetFile(path) as file:
            if field not in file.schema_arrow.names:
                return [], f"lacks the column {field!r} (its columns: {', '.join(file.schema_arrow.names[:8])})"
            begin, row, rows, weight = 0, 1, 0, 0
            for group in range(file.metadata.num_row_groups):
                metadata = file.metadata.row_group(group)
                rows, weight = rows + metadata.num_rows, weight + metadata.total_byte_size
                if weight >= size or group + 1 == file.metadata.num_row_groups:
                    found.append((begin, group + 1, row, weight))
                    begin, row, rows, weight = group + 1, row + rows, 0, 0
            return found, "" if file.metadata.num_rows else "is empty"
    except (pa.lib.ArrowException, OSError) as error:
        return [], f"is no readable Parquet file: {_sentence(error)}"


def columns(path: Path) -> list[str]:
    """Names of a file's columns; none if it cannot be read."""
    pa = _library()
    try:
        with pa.parquet.ParquetFile(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    except (pa.lib.ArrowException, OSError):
        return []


def read_rows(path: Path, begin: int, end: int, row: int, field: str) -> Iterator[Record]:
    """Documents in row groups `begin` to `end`, whose first row is number `row`."""
    pa = _library()
    with pa.parquet.ParquetFile(path) as file:
        columns = [name for name in (field, "tools") if name in file.schema_arrow.names]
        for group in range(begin, end):
            last = row + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(_ROWS, row_groups=[group], columns=columns):
                    for fields in batch.to_pylist():
                        yield record_of(row, fields, field)
                        row += 1
            except (pa.lib.ArrowException, OSError) as error:
                yield Record(row, problem=f"cannot be read, nor what follows in its group: {_sentence(error)}")
            row = last


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _library() -> ModuleType:
    try:
        import pyarrow.parquet  # noqa: PLC0415 - optional
    except ImportError:
        raise not_installed("Parquet", "pyarrow", "train") from None
    return pyarrow

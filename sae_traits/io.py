"""Files and folders that are written whole or not at all, whenever the process is killed, and hashes."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from sae_traits.errors import StoreError

_SECONDS = re.compile(r"\d+(\.\d+)?")
_SEAL = "sha256"
LFS_POINTER = b"version https://git-lfs"
"""How the small file begins that Git LFS leaves in the place of a large one."""
IS_LFS_POINTER = "it is what Git LFS leaves in the place of a file; get the file itself with `git lfs pull`"
_UNFINISHED = re.compile(r".+\.\d+\.partial|\..+\.sae-traits-partial")


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all; a StoreError where it cannot be written."""
    write_whole(path, text.encode())


def json_text(values: Any) -> str:
    """Values as indented JSON; NaN and infinities, which JSON does not have, are null."""
    return json.dumps(finite(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def sealed_json(values: Mapping[str, Any]) -> str:
    """Values as `json_text`, with a hash of them that `read_sealed` compares."""
    return json_text({**values, _SEAL: _hash_of_values(values)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The values that `sealed_json` wrote; None where they are not as they were written.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_bytes())
        seal = values.pop(_SEAL)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return values if seal == _hash_of_values(values) else None


def _hash_of_values(values: Mapping[str, Any]) -> str:
    as_read = json.loads(json_text(values))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def finite(value: Any) -> Any:
    """Plain values with None in the place of NaN and infinities."""
    if isinstance(value, Mapping):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table whole or not at all, its text such that no spreadsheet takes a cell for a formula."""
    with whole_file(path) as stream:
        file = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([_cell(name) for name in header])
        writer.writerows([_cell(value) for value in row] for row in rows)
        file.detach()  # flushes, and leaves the stream open


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def write_whole(path: Path, content: bytes, *, on_full_disk: str = "free some space, and run it again") -> None:
    """Write a file so that it is there whole or not at all, also after a crash or a power cut.

    `on_full_disk` says what to do where there is no room for it, for the message.

    Raises:
        StoreError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with whole_file(path, on_full_disk=on_full_disk) as stream:
        stream.write(content)


@contextmanager
def whole_file(path: Path, *, on_full_disk: str = "free some space, and run it again") -> Iterator[BinaryIO]:
    """A file to write into, which takes its name when it is complete; the rest is as in `write_whole`."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # several processes may write the same
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (partial, path, path.parent):
            raise  # of something that is read meanwhile
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreError(f"the disk is full: {path} cannot be written; {on_full_disk}") from error
        raise StoreError(f"cannot write {path}: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work whose result it is to hold.

    Raises:
        StoreError: its folder is not there or cannot be written into, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise StoreError(f"cannot write {path}: there is no folder {path.parent}; make it, or name another file")
    if path.is_dir():
        raise StoreError(f"cannot write {path}: it is a folder; name a file")
    if not os.access(path.parent, os.W_OK):
        raise StoreError(f"cannot write {path}: the folder {path.parent} cannot be written into; name another file")


def is_unfinished(name: str, *files: str) -> bool:
    """Whether a name is what `whole_file` calls one of some files while it is written, and a kill leaves."""
    of_any = "|".join(map(re.escape, files))
    return re.fullmatch(rf"({of_any})\.\d+\.partial", name) is not None


def clear_unfinished(folder: Path) -> None:
    """Remove what `whole_file` and `replacing` had not finished below a folder in processes that were killed."""
    for path in [path for path in folder.rglob("*partial") if _UNFINISHED.fullmatch(path.name)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # it went with its folder


def _sync_folder(folder: Path) -> None:
    """Make the renaming of a file durable; Windows cannot open folders, and needs no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_of_file(*paths: Path) -> str:
    """SHA-256 of a file, or of several one after the other, in hexadecimal; a StoreError where one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return digest.hexdigest()


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in the place of a large one; one that cannot be read is not."""
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to be left alone, if it does: a number or a date (RFC 9110, section 10.2.3).

    The headers of its reply are looked up as `retry-after`, so their names are matched as the mapping does.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:  # the header is missing, or is neither
        return None
    return max(0.0, date.timestamp() - time.time())


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` at the end, unless the block raises.

    A kill leaves what stood there before, under its own name or, between two renames, as `.FOLDER.sae-traits-old`: the
    next attempt puts that back first, so that the block can read what it is going to replace. These names are such that
    nobody gives them to a folder of their own.

    Raises:
        OSError: it cannot be written.
    """
    partial, old = (folder.with_name(f".{folder.name}.sae-traits-{which}") for which in ("partial", "old"))
    _put_back(old, folder)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of an attempt that was killed
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    finally:
        _put_back(old, folder)
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path, folder: Path) -> None:
    if old.exists() and not folder.exists():
        old.rename(folder)


def copy_to_write(source: str | Path, target: str | Path) -> str | Path:
    """Copy a file with its time, and make the copy writable, whatever the mode of the source."""
    shutil.copy2(source, target)
    _make_writable(Path(target), stat.S_IWUSR)
    return target


def copy_folder_to_write(source: Path, target: Path) -> None:
    """Copy a folder into a new one, whose files can be written and which new files can be put into."""
    shutil.copytree(source, target, copy_function=copy_to_write)
    for folder, _, _ in os.walk(target):
        _make_writable(Path(folder), stat.S_IRWXU)


def _make_writable(path: Path, mode: int) -> None:
    path.chmod(stat.S_IMODE(path.stat().st_mode) | mode)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links; its time stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        copy_to_write(source, target)


def unshare(path: Path) -> None:
    """Make a file that has several names a file of its own, so that writing into it changes no other."""
    if path.stat().st_nlink > 1:
        copy = path.with_name(f"{path.name}.{os.getpid()}.partial")
        copy_to_write(path, copy)
        copy.replace(path)


def json_of_version(text: str, version: int) -> dict[str, Any]:
    """Read a JSON object that says its `schema_version`.

    Raises:
        ValueError: the text is something else, or of another version.
    """
    values = json.loads(text)
    found = values.get("schema_version") if isinstance(values, dict) else None
    if found != version:
        raise ValueError(f"its schema_version is {found}, not {version}")
    return values

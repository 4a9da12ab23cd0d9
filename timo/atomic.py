"""Outputs that appear whole or not at all: written to a temporary sibling, then renamed."""

import errno
import glob
import hashlib
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from timo.errors import TimoError

# Process numbers mean something on one machine only: partials of another node of a cluster are left alone.
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
# What this very process is writing now. A partial with our number that is not here is of an earlier process that had
# the same number (in a container that is the rule: each run is process 1).
_ACTIVE: set[str] = set()
# No room on the disk, a quota used up, a limit on the size of files.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_PROBE_MB = 64  # larger than what a library writes at once
# Bytes: file systems allow 255, and partials and side-car files bear more than the name.
_LONGEST_NAME = 200


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file or a folder so that it appears under its name only when it is complete.

    The block gets a path beside `path`, where nothing exists yet, with the same suffix, by which drivers recognise a
    format, and writes a file or makes a folder there; the parent folder is created. When the block ends, it is renamed
    to `path`; when the block raises (an interrupt included), it is removed and what was at `path` stays as it was. A
    killed process leaves at most ``.{name}.partial-...``, which the next write to the same `path` removes.

    An older folder at `path` is replaced. Entries of it that the new folder lacks are kept, because they may be of
    other use; only a Zarr store is replaced whole, because its old arrays would show up in the new one.

    A `TimoError` says so where the name is too long, the parent folder cannot be created or written, the disk is full,
    the block wrote nothing, or a file would replace a folder or a folder a file.
    """
    target = check_name(path).resolve()
    check_writable(target.parent)
    _remove_stale(target)
    token = f"{os.getpid()}-{_HOST}{secrets.token_hex(4)}"
    partial = target.with_name(f".{target.name}.partial-{token}{target.suffix}")
    _ACTIVE.add(token)
    try:
        yield partial
        move(partial, target)
    except Exception as error:
        if reason := _why_not_written(error, partial):
            raise TimoError(f"cannot write '{target}': {reason}") from error
        raise
    finally:
        # Also what a driver wrote beside the partial (side-car files), whether or not the block succeeded.
        for leftover in target.parent.glob(f"{glob.escape(partial.name)}*"):
            _remove(leftover)
        _ACTIVE.discard(token)


def check_name(path: str | os.PathLike[str], to: str = "write") -> Path:
    """Return a path with ``~`` expanded, or raise a TimoError where no file can be called so."""
    path = Path(path)
    try:
        path = path.expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            path.lstat()
        reason = f"its name is longer than {_LONGEST_NAME} bytes"
        if len(os.fsencode(path.name)) <= _LONGEST_NAME:
            return path
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    shown = str(path) if len(str(path)) <= 100 else f"{str(path)[:60]}...{str(path)[-30:]}"
    raise TimoError(f"cannot {to} {shown!r}: {reason}; choose another name or folder")


def check_writable(folder: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents, and prove that it can be written, before hours of work are spent."""
    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits are not enough (root, read-only mounts, quotas): a file is.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EEXIST:
            reason = "it is a file"
        raise TimoError(
            f"cannot write to the folder '{folder}': {reason}; choose another output folder"
        ) from error
    return folder


def _why_not_written(error: Exception, partial: Path) -> str | None:
    """Return why the operating system refused to write an output, or None if that was not the reason."""
    if _is_full(error, partial):
        # A library that failed may hold the file open, and so the room on the disk, for hours.
        with suppress(OSError):
            os.truncate(partial, 0)
        return (
            f"the disk of '{partial.parent}' is full, or a quota or a limit on the size of files is reached. "
            "Make room there, or choose another folder"
        )
    if isinstance(error, OSError) and str(error.filename or "").startswith(str(partial)):
        return f"{error.strerror or error}. Choose another folder, or find out what ails the disk"
    return None


def _is_full(error: Exception, partial: Path) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        elsewhere = isinstance(getattr(cause, "filename", None), str | bytes)
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return not elsewhere or Path(os.fsdecode(cause.filename)).is_relative_to(partial.parent)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimoError):
        return False
    # Libraries hide the reason ("NetCDF: HDF error", even "Permission denied"): try to go on where they stopped.
    # What is written here is removed with the partial.
    probe = partial if partial.is_file() else partial.with_name(f"{partial.name}.probe")
    try:
        with probe.open("ab", buffering=0) as file:
            for _ in range(_PROBE_MB):
                file.write(bytes(1 << 20))
    except OSError as refused:
        return refused.errno in _FULL
    return False


def move(partial: Path, target: Path) -> None:
    """Give a complete file or folder its name, in place of what is there, as `replacing` does."""
    if not partial.exists():
        raise TimoError(f"nothing was written to '{partial.name}', so there is no '{target.name}'")
    if target.exists() and target.is_dir() != partial.is_dir():
        kinds = ("folder", "file") if target.is_dir() else ("file", "folder")
        raise TimoError(
            f"'{target}' is a {kinds[0]} and would be replaced by a {kinds[1]}: "
            "choose another name, or remove it"
        )
    if target.is_dir():
        _swap(partial, target)
    else:
        partial.replace(target)


def _swap(partial: Path, target: Path) -> None:
    # No portable call exchanges two folders, so for an instant the old one has another name. That name is not one of a
    # partial: no later run removes it.
    previous = target.with_name(f".{target.name}.previous-{secrets.token_hex(4)}")
    target.rename(previous)
    try:
        partial.rename(target)
    except BaseException:
        previous.rename(target)
        raise
    if not all((folder / "zarr.json").exists() for folder in (previous, target)):
        for entry in previous.iterdir():
            if not (target / entry.name).exists():
                entry.rename(target / entry.name)
    shutil.rmtree(previous)


def _remove_stale(target: Path) -> None:
    name = re.escape(f".{target.name}.partial-")
    for entry in target.parent.glob(f".{glob.escape(target.name)}.partial-*"):
        match = re.match(rf"{name}((\d+)-([0-9a-f]{{6}})[0-9a-f]{{8}})", entry.name)
        if match and match[3] == _HOST and not _in_use(match[1], int(match[2])):
            _remove(entry)


def _in_use(token: str, pid: int) -> bool:
    if pid == os.getpid():
        return token in _ACTIVE
    if os.name == "nt":  # there, os.kill(pid, 0) would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for _ in range(10):  # threads of a write that failed may still add a file
            with suppress(OSError):
                shutil.rmtree(path)
                return
            time.sleep(0.02)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Replace a file as a whole: afterwards there is the old one or the new one, never a part."""

import contextlib
import os
import shutil
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make created, renamed and removed names in a folder survive a power loss."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def partial_path(path: Path) -> Path:
    """Return where the new content is collected, beside the file itself."""
    return path.with_name(path.name + ".partial")


def replace_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write a complete new file beside the old one, then put it in its place.

    Raises:
        OSError: The content could not be written; the old file is untouched and nothing is left.
    """
    partial = partial_path(path)
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)

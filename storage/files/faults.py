"""Tells errors of a file from errors of the network or the machine."""

from __future__ import annotations

import errno

_FILES_FAULT = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP}
    | {errno.ENAMETOOLONG, errno.EBADMSG, errno.EUCLEAN, errno.EINVAL, errno.ENXIO, errno.EIO}
)
"""Missing, in each other's place, closed, links in a circle, a long name, a damaged file system,
places before the file's start, a socket, a bad sector. A network may give ``EIO`` and fix, but a
disk gives it for good: it costs a video, which can be tried again, and not a shard."""


def is_files_fault(error: Exception) -> bool:
    """Whether a file or folder is at fault for an error, and will be the next time too.

    Otherwise the network or the machine is (``ESTALE``, ``ETIMEDOUT``, ``EMFILE``), and the same
    work may succeed later. Libraries give their own errors for damage no number.
    """
    return not isinstance(error, OSError) or error.errno is None or error.errno in _FILES_FAULT

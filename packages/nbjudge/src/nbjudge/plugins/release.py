"""`nbgrader release_assignment`: whole or not at all, and a sentence where the exchange refuses.

nbgrader's deletes the old release first; an exchange that is full would then keep half of the new
one, which learners fetch.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile

from nbgrader.exchange.default import ExchangeReleaseAssignment

_FILE = stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH
_FOLDER = _FILE | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


class ReleaseAssignment(ExchangeReleaseAssignment):
    """As nbgrader's, but the old release stays until the new one is whole."""

    def start(self) -> None:
        """Release; `ExchangeError` with the reason where that cannot be."""
        try:
            super().start()
        except OSError as error:
            self.fail(
                f"{self.coursedir.assignment_id} was not released, and nothing was changed: "
                f"{reason(error)}. See to the space and the permissions of {self.root}, then run "
                "the same command again."
            )

    def copy_files(self) -> None:
        """Put a copy in the place of what is there."""
        course = self.coursedir
        name = f"{course.course_id} {course.assignment_id}"
        if os.path.isdir(self.dest_path) and not self.force:
            self.fail(f"Destination already exists, add --force to overwrite: {name}")
        self.log.info("Source: %s", self.src_path)
        self.log.info("Destination: %s", self.dest_path)
        with tempfile.TemporaryDirectory(prefix=".release-", dir=self.outbound_path) as temporary:
            new = os.path.join(temporary, "new")
            self.do_copy(self.src_path, new)
            shared = course.groupshared
            self.set_perms(
                new,
                fileperms=_FILE | (stat.S_IWGRP if shared else 0),
                dirperms=_FOLDER | (stat.S_ISGID | stat.S_IWGRP if shared else 0),
            )
            if os.path.lexists(self.dest_path):
                os.rename(self.dest_path, os.path.join(temporary, "old"))
            os.rename(new, self.dest_path)
        self.log.info("Released as: %s", name)


def reason(error: OSError) -> str:
    """Return why the system refused, in its own words."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        first = error.args[0][0]  # source, destination, and the words
        return str(first[-1]) if isinstance(first, tuple) else str(first)
    return error.strerror or str(error)

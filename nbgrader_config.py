"""The course as nbgrader sees it: every nbgrader command works from this folder with no flags."""

import os
from pathlib import Path

from nbjudge import configure

c = get_config()  # noqa: F821 - traitlets gives this function to a configuration file

root = Path(__file__).resolve().parent
c.CourseDirectory.root = str(root)
c.CourseDirectory.course_id = "llm-memory"

# nbgrader's own exchange where an administrator has made it; otherwise one inside the course,
# so that release, collect and feedback work on a fresh machine.
shared = Path("/usr/local/share/nbgrader/exchange")
if not os.access(shared, os.W_OK):
    shared = root / "exchange"
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
c.Exchange.root = str(shared)

configure(c)

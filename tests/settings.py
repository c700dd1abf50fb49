"""The course's own configuration, as nbgrader loads it."""

from course_tools.build import course
from traitlets.config.loader import PyFileConfigLoader

COURSE = PyFileConfigLoader("nbgrader_config.py", path=str(course.root())).load_config()

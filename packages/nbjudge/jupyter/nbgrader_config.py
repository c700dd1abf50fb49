"""Stands in the environment's Jupyter configuration: every nbgrader command and Formgrader load it.

A course's own configuration can fail to load, and nbgrader then goes on without it: unsandboxed,
with the grader's own rights. What is here does not depend on that file.
"""

c = get_config()  # noqa: F821 - traitlets gives this function to a configuration file

try:
    from nbjudge.guard import arm

    arm()
except Exception as error:
    from nbgrader.converters.autograde import Autograde
    from nbgrader.converters.base import NbGraderException

    problem = f"{type(error).__name__}: {error}"

    def refuse(self):
        """Grade nothing: the engine is installed, and not whole."""
        message = (
            f"The grading engine nbjudge is only half installed in this environment ({problem}), "
            "so nothing was graded. Install it again, then run the same command."
        )
        self.log.error(message)
        raise NbGraderException(message)

    Autograde.start = refuse

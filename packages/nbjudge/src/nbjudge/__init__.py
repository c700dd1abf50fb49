"""A grading engine for any nbgrader course: warm sandboxed kernels, verdicts from outside."""

from nbjudge.configure import configure

__all__ = ["configure"]

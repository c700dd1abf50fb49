"""What the engine does not know by itself: a course says it by traits in `nbgrader_config.py`."""

from __future__ import annotations

from traitlets import Bool, Dict, List, Unicode
from traitlets.config import Config, Configurable

from nbjudge.intake import recorded
from nbjudge.wire import course


class NbJudge(Configurable):
    """A course's settings for the engine: `c.NbJudge.preload = […]`, after `configure(c)`.

    All of them are names, so that they travel to the processes that need what is named.
    """

    preload = List(
        Unicode(),
        help="Modules that are imported once, before kernels are forked: what most notebooks of "
        "the course import. One that is missing is an error that names it. 'module:function' also "
        "calls a function, without arguments: for data that each process would read.",
    ).tag(config=True)
    shared = List(
        Unicode(),
        help="Packages of the course's own that learners import: kernels may read them wherever "
        "they are installed, and their functions and classes travel to a kernel by name.",
    ).tag(config=True)
    test_names = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="Names that test cells may use, and what each is in the judge, as 'module:name'.",
    ).tag(config=True)
    recorder = Unicode(
        "",
        help="'module:name' of the object that reads, merges and scores recorded answers (an "
        "`nbjudge.intake.recorded.Recorder`); '' for a course that has none.",
    ).tag(config=True)
    exercise_of = Unicode(
        "",
        help="'module:name' of a function (test's grade_id, exercises' grade_ids) → the exercise "
        "that a test belongs to, or None; '' for nbgrader's own names in reports.",
    ).tag(config=True)
    watch = Bool(
        True,
        help="Whether a flag notes what a cell tried and was refused. It never changes a score.",
    ).tag(config=True)

    handles = Dict(
        key_trait=Unicode(),
        value_trait=List(Unicode()),
        help="Of objects that tests hand to learners' code: 'module:Class', and the parts that "
        "this code may use, special methods too ('__call__'). Nothing else of an object of that "
        "class, or of one made from it, can be had. Classes that are not named here are open as "
        "far as they are public.",
    ).tag(config=True)

    forbidden = Dict(
        key_trait=Unicode(),
        value_trait=List(Unicode()),
        help="Exercise (its grade_id) → names that its solution must not use, since they do what "
        "it asks for: 'torch.softmax', 'torch.special.*', a part of anything by '*.softmax', or a "
        "name of the notebook. Whoever uses one is flagged; it never changes a score.",
    ).tag(config=True)

    def as_data(self) -> course.Course:
        """Return the settings as plain data.

        Raises `ImportError` where the recorder cannot be had.
        """
        return course.Course(
            list(self.preload),
            list(self.shared),
            dict(self.test_names),
            self.recorder,
            self.exercise_of,
            list(recorded.load(self.recorder).files),
            self.watch,
            {name: list(parts) for name, parts in self.handles.items()},
            {name: list(names) for name, names in self.forbidden.items()},
        )


def apply(config: Config) -> None:
    """Let this process grade for the course of `config`."""
    course.use(NbJudge(config=config).as_data())

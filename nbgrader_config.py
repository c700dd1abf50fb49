"""The course as nbgrader sees it: every nbgrader command works from this folder with no flags."""

import os
import pkgutil
from pathlib import Path

try:
    from course_tools.forbidden import FORBIDDEN
    from nbjudge import configure

    import llm_memory
except ImportError as error:
    # Any other exception here would be logged, and nbgrader would grade without the engine.
    raise SystemExit(f"nbgrader_config.py: {error}. Run `make lab`, which installs it.") from error

c = get_config()  # noqa: F821 - traitlets gives this function to a configuration file

root = Path(__file__).resolve().parent
c.CourseDirectory.root = str(root)
c.CourseDirectory.course_id = "llm-memory"

# nbgrader's own exchange where an administrator has made it; otherwise one inside the course,
# so that release, collect and feedback work on a fresh machine.
shared = Path("/usr/local/share/nbgrader/exchange")
if not os.access(shared, os.W_OK):
    shared = root / "exchange"
    if not shared.is_dir():
        shared.mkdir()
        # Of several graders who share this folder, only the one who made it may do this.
        shared.chmod(0o777)
c.Exchange.root = str(shared)

configure(c)

# What the engine does not know by itself.
c.NbJudge.preload = [
    *("numpy", "torch", "torch.nn.functional", "matplotlib", "matplotlib.pyplot", "ipywidgets"),
    "matplotlib.backends.backend_agg",
    *(f"llm_memory.{module.name}" for module in pkgutil.iter_modules(llm_memory.__path__)),
    "llm_memory.check:lessons",
]
c.NbJudge.shared = ["llm_memory"]
c.NbJudge.test_names = {"check": "llm_memory.check:check"}
# What a test hands over is counted by it, or does what the exercise asks for: so much and no more.
c.NbJudge.handles = {
    "llm_memory.counted:Counted": ["__call__", "config"],
    "llm_memory.model:Attention": [
        *("w_q", "w_k", "w_v", "w_o", "b_q", "b_k", "b_v", "b_o"),
        *("n_heads", "n_kv_heads", "head_dim", "rope_theta"),
    ],
}
c.NbJudge.recorder = "course_tools.grading:quizzes"
c.NbJudge.exercise_of = "course_tools.grading:exercise_of"
# Whoever hands in a finished function where its writing is the exercise is flagged.
c.NbJudge.forbidden = FORBIDDEN

"""How fast a class is graded: stock nbgrader, Otter and ours, on the same submissions, in one run.

`make bench-grading` simulates a class on the real lesson (solved, partly solved, unsolved and
mistaken work, quizzes at random), grades it each way, compares the scores, and writes the table
into `docs/benchmarks.md`. Only ratios from one run mean something: the machine decides the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from course_tools.build import fingerprints  # noqa: E402
from course_tools.build.lesson import grade_id, is_quiz, is_test  # noqa: E402

from llm_memory.quiz import BANK  # noqa: E402
from packages.nbjudge.tests.second_course import course as second  # noqa: E402
from tests.submissions import hand_in, released, scores, solutions, solved  # noqa: E402

OTTER = "otter-grader==7.0.0"
SEED = 20261124
#: The assignment of the second course that is measured.
LIGHT = "words"
STOCK_CONFIG = """c = get_config()
c.CourseDirectory.course_id = "llm-memory"
"""


#: What the processes of a run are for, by their place below the one that was started.
OWNER = "nbgrader: files, rebuild, gradebook"
WORKER = "workers: messages to kernels"
SERVER = "fork server: imports once, forks"
JUDGE = "judges: the tests' side"
KERNEL = "kernels: the learners' code"


@dataclass
class Measurement:
    """One way of grading: how many submissions, seconds, CPU seconds, peak bytes, scores."""

    name: str
    submissions: int
    seconds: float
    cpu: float
    memory: int
    parts: dict[str, float]  # CPU seconds by what the processes are for
    scores: dict[str, dict[str, float]]

    @property
    def throughput(self) -> float:
        """Submissions per second."""
        return self.submissions / self.seconds


def mistaken(lesson: str, dice: random.Random) -> dict[str, str]:
    """Return code for two exercises that makes a known mistake each, as a learner would write it.

    Only mistakes that call no other function of the bank are taken.
    """
    bank = fingerprints.load_bank(ROOT, lesson)
    own = {}
    for name in dice.sample(sorted(bank.exercises), k=2):
        alone = [m.work for m in bank.exercises[name].mistakes if _stands_alone(m.work)]
        if alone:
            work = dice.choice(alone)
            code = textwrap.dedent(inspect.getsource(work))
            code = code[code.index("def ") :]
            own[name] = code.replace(f"def {work.__name__}(", f"def {name}(")
    return own


def _stands_alone(work: Callable) -> bool:
    if not inspect.isfunction(work):
        return False
    others = {name for name, item in work.__globals__.items() if inspect.isfunction(item)}
    return not others & set(work.__code__.co_names)


def simulate(folder: Path, lesson: str, students: int) -> None:
    """Write a class's submissions: a quarter each solved, partly, unsolved and mistaken."""
    dice = random.Random(SEED)
    quizzes = [quiz for quiz in BANK.values() if quiz.topic == lesson]
    names = list(solutions(lesson))
    for number in range(students):
        kind = ("solved", "partly", "unsolved", "mistaken")[number % 4]
        if kind == "solved":
            notebook = solved(lesson)
        elif kind == "partly":
            notebook = solved(lesson, dice.sample(names, k=len(names) // 2))
        elif kind == "unsolved":
            notebook = released(lesson)
        else:
            notebook = solved(lesson, own=mistaken(lesson, dice))
        answers = {quiz.name: dice.choice(quiz.options).id for quiz in quizzes}
        hand_in(folder, f"{kind}-{number:03d}", lesson, notebook, answers)


def make_course(folder: Path, lesson: str, students: int, stock: bool) -> Path:
    """Return a course with a released lesson and a class's submissions."""
    folder.mkdir(parents=True)
    shutil.copytree(ROOT / "source" / lesson, folder / "source" / lesson)
    if stock:
        (folder / "nbgrader_config.py").write_text(STOCK_CONFIG)
    else:
        shutil.copy(ROOT / "nbgrader_config.py", folder)
        shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", lesson]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    simulate(folder, lesson, students)
    return folder


def measure(name: str, command: list[str], folder: Path, lesson: str, n: int) -> Measurement:
    """Run a command in a course and return what it took, its descendants included."""
    print(f"{name}: {n} submissions …", flush=True)
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    watch = Watch(process.pid)
    watch.start()
    printed, _ = process.communicate()
    seconds = time.perf_counter() - start
    after = os.times()
    if process.returncode:
        raise SystemExit(f"{name} failed:\n{printed[-3000:]}")
    cpu = (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )
    graded = scores(folder, lesson) if (folder / "gradebook.db").is_file() else {}
    return Measurement(name, n, seconds, cpu, watch.peak, watch.parts(), graded)


class Watch(threading.Thread):
    """Looks at a process and all below it: their memory, and what each spends its time on."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.root, self.peak = psutil.Process(pid), 0
        self._roles: dict[psutil.Process, str] = {self.root: OWNER}
        self._spent: dict[psutil.Process, float] = {}

    def run(self) -> None:
        """Look until the process has ended: often at the times, now and then at the memory."""
        turn = 0
        while True:
            try:
                found = [self.root, *self.root.children(recursive=True)]
            except psutil.Error:
                return
            memory = 0
            for process in found:
                with contextlib.suppress(psutil.Error, OSError):
                    if process not in self._roles:
                        self._roles[process] = self._role(process)
                    times = process.cpu_times()
                    self._spent[process] = times.user + times.system
                    if turn % 5 == 0:
                        # PSS counts a page that forked kernels share once.
                        memory += process.memory_full_info().pss
            self.peak = max(self.peak, memory)
            turn += 1
            time.sleep(0.1)

    def _role(self, process: psutil.Process) -> str:
        above = self._roles.get(process.parent(), OWNER)
        command = " ".join(process.cmdline())
        if above in (OWNER, WORKER):
            if "nbjudge.server.forkserver" in command:
                return SERVER
            # A worker is a fork of the owner, or was started by multiprocessing.
            forked = above == OWNER and process.cmdline() == self.root.cmdline()
            return WORKER if forked or "multiprocessing" in command else above
        # The server forks a judge, or the first process of a namespace, which forks a kernel.
        return JUDGE if above == SERVER else KERNEL

    def parts(self) -> dict[str, float]:
        """Return the CPU seconds by role; a process's last tenth of a second may be missing."""
        found = dict.fromkeys((OWNER, WORKER, SERVER, JUDGE, KERNEL), 0.0)
        for process, spent in self._spent.items():
            found[self._roles[process]] += spent
        return found


def compare(stock: Measurement, other: Measurement) -> list[str]:
    """Return where a way gives another score than stock nbgrader, quizzes aside.

    Stock nbgrader gives a quiz full points for running without an error.
    """
    return [
        f"{student} {cell}: stock {score:g}, {other.name} {other.scores[student][cell]:g}"
        for student, cells in stock.scores.items()
        if student in other.scores
        for cell, score in cells.items()
        if not cell.startswith("quiz_") and score != other.scores[student][cell]
    ]


def otter_environment(folder: Path) -> Path:
    """Make an environment with Otter and the lesson's package; return its Python."""
    print("installing Otter in an environment of its own …", flush=True)
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", OTTER, ROOT],
        check=True,
    )
    return python


def run_otter(folder: Path, lesson: str, n: int) -> Measurement:
    """Grade `n` submissions with `otter run`, on a notebook with the same cells and tests."""
    python = otter_environment(folder / "env")
    course = folder / "course"
    course.mkdir()
    tests = course / "tests"
    tests.mkdir()
    source = nbformat.read(ROOT / "source" / lesson / f"{lesson}.ipynb", as_version=4)
    checks = [cell for cell in source.cells if is_test(cell)]
    for cell in checks:
        (tests / f"{grade_id(cell)}.py").write_text(otter_test(cell))
    command = [python, "-m", "otter", "generate", "-t", tests, "-o", course / "autograder.zip"]
    subprocess.run([*map(str, command), "--no-environment"], cwd=course, check=True)
    simulate(course, lesson, n)
    notebooks = sorted((course / "submitted").glob(f"*/{lesson}/{lesson}.ipynb"))
    for path in notebooks:
        notebook = nbformat.read(path, as_version=4)
        notebook.cells = [
            cell for cell in notebook.cells if not is_test(cell) and not is_quiz(cell)
        ]
        nbformat.write(notebook, path)
    script = course / "run.sh"
    lines = [
        f"mkdir -p results/{path.parts[-3]}; "
        f"{python} -m otter run -a autograder.zip -o results/{path.parts[-3]} {path}"
        for path in notebooks
    ]
    script.write_text("set -e\n" + "\n".join(lines) + "\n")
    measured = measure("Otter, `otter run`", ["bash", str(script)], course, lesson, n)
    for path in notebooks:
        student = path.parts[-3]
        results = json.loads((course / "results" / student / "results.json").read_text())
        measured.scores[student] = {
            test["name"]: test["score"] for test in results["tests"] if "score" in test
        }
    return measured


def otter_test(cell: nbformat.NotebookNode) -> str:
    """Return the test cell as an Otter test file."""
    body = cell.source.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    points = cell.metadata.nbgrader.points
    return (
        "from otter.test_files import test_case\n\nOK_FORMAT = False\n"
        f'name = "{grade_id(cell)}"\npoints = {points}\n\n'
        f'CODE = """{body}"""\n\n'
        f"@test_case(points={points}, hidden=True)\ndef test_it(env):\n    exec(CODE, dict(env))\n"
    )


def table(rows: list[Measurement], base: Measurement) -> str:
    """Return the measurements as a Markdown table, with ratios to `base`."""
    lines = [
        "| graded with | submissions | s per submission | CPU s per submission | peak memory | "
        "throughput against stock |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| {row.name} | {row.submissions} | {row.seconds / row.submissions:.2f} | "
            f"{row.cpu / row.submissions:.2f} | {row.memory / 2**20:,.0f} MiB | "
            f"{row.throughput / base.throughput:.1f} × |"
        )
    return "\n".join(lines)


def profile(row: Measurement) -> str:
    """Return what the CPU seconds of a run went into, as a Markdown table."""
    lines = ["| what is left | CPU s per submission |", "|---|---:|"]
    lines += [f"| {part} | {spent / row.submissions:.2f} |" for part, spent in row.parts.items()]
    return "\n".join(lines)


def cost(row: Measurement, cores: int, learners: int = 100_000) -> str:
    """Return the paragraph on what a very large class costs, from a measured one.

    The price of a core-hour is left to the reader: clouds differ, and change.
    """
    hours = row.cpu / row.submissions * learners / 3600
    seconds = row.seconds / row.submissions * learners
    return (
        f"Measured above: {row.cpu / row.submissions:.2f} CPU seconds a submission, everything "
        f"included. {learners:,} learners who hand in the `attention` lesson once are "
        f"{hours:,.0f} core-hours: {seconds / 3600:,.1f} hours on a machine like this one "
        f"({cores} cores). The one process that owns the gradebook takes "
        f"{row.parts[OWNER] / row.submissions:.2f} of these CPU seconds, so it keeps up with about "
        f"{row.cpu / row.parts[OWNER]:.0f} cores; beyond that, give each lesson, or each part of "
        "the class, a course folder of its own. Peak memory was "
        f"{row.memory / 2**20:,.0f} MiB at {row.submissions} submissions: only what is in flight "
        "is held."
    )


def light_course(folder: Path, students: int, stock: bool) -> Path:
    """Return a course whose kernels import little, with a class's submissions of each kind."""
    (folder / "source").mkdir(parents=True)
    if stock:
        (folder / "nbgrader_config.py").write_text(STOCK_CONFIG)
    else:
        shutil.copy(Path(second.__file__).with_name("nbgrader_config.py"), folder)
    second.write(folder / "source" / LIGHT, LIGHT)
    command = [sys.executable, "-m", "nbgrader", "generate_assignment", LIGHT]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for number in range(students):
        kind = ("solved", "partly", "unsolved", "wrong")[number % 4]
        second.write(folder / "submitted" / f"{kind}-{number:03d}" / LIGHT, LIGHT, kind)
    return folder


def measure_light(folder: Path, few: int, many: int, cores: int) -> tuple[str, list[str]]:
    """Return what the second course takes, as Markdown, and where its scores differ."""
    python = sys.executable
    autograde = [python, "-m", "nbgrader", "autograde", LIGHT]
    grade = [python, "-c", "from nbjudge.cli import main; main()", "grade", LIGHT]
    grade.append(f"--workers={cores}")

    def run(name: str, command: list[str], n: int, stock: bool) -> Measurement:
        course = light_course(folder / f"{'stock' if stock else 'ours'}-{n}", n, stock)
        return measure(name, command, course, LIGHT, n)

    stock = run(f"stock `nbgrader autograde`, {few} submissions", autograde, few, True)
    rows = [stock, run(f"ours, `nbgrader autograde`, {few} submissions", autograde, few, False)]
    class_ = run("stock `nbgrader autograde`", autograde, few * 3, True)
    rows_class = [class_, run(f"ours, {cores} workers, at scale", grade, many, False)]
    differing = compare(stock, rows[1]) + compare(class_, rows_class[1])
    return f"{table(rows, stock)}\n\n{table(rows_class, class_)}", differing


def measure_feedback(stock: Path, ours: Path, lesson: str) -> str:
    """Return what the feedback for two graded classes takes, as Markdown."""
    command = [sys.executable, "-m", "nbgrader", "generate_feedback", lesson]
    rows = []
    for name, course in (("stock", stock), ("ours", ours)):
        n = len(list((course / "autograded").iterdir()))
        rows.append(measure(f"{name}, `nbgrader generate_feedback`", command, course, lesson, n))
    return table(rows, rows[0])


def measure_nothing(course: Path, lesson: str, stock: Path) -> str:
    """Return what a command takes where all is graded and nothing is new, as Markdown."""
    python = sys.executable
    lines = [
        "| where nothing is new | submissions | CPU s in all | s in all |",
        "|---|---:|---:|---:|",
    ]
    for name, command, folder in (
        ("stock `nbgrader autograde`", ["nbgrader", "autograde"], stock),
        ("ours, `nbgrader autograde`", ["nbgrader", "autograde"], course),
        ("ours, `llm-memory grade`", ["course_tools.cli", "grade"], course),
    ):
        n = len(list((folder / "submitted").iterdir()))
        row = measure(name, [python, "-m", *command, lesson], folder, lesson, n)
        lines.append(f"| {row.name} | {n} | {row.cpu:.2f} | {row.seconds:.2f} |")
    return "\n".join(lines)


def measure_many(folder: Path, n: int, cores: int) -> str:
    """Return what each command takes for a large class on the second course, as Markdown."""
    python = sys.executable
    course = light_course(folder, n, False)
    own, nbgrader = [python, "-m", "nbjudge"], [python, "-m", "nbgrader"]
    grade = [*own, "grade", LIGHT, f"--workers={cores}"]
    lines = ["| a class | submissions | CPU s in all | s in all |", "|---|---:|---:|---:|"]
    for name, command in (
        ("`llm-memory grade`, all new", grade),
        ("`llm-memory grade`, nothing new", grade),
        ("`nbgrader autograde`, nothing new", [*nbgrader, "autograde", LIGHT]),
        ("`llm-memory grade`, one learner is new", grade),
        ("`llm-memory status`", [*own, "status", LIGHT]),
        ("`nbgrader generate_feedback`", [*nbgrader, "generate_feedback", LIGHT]),
        ("`nbgrader export`", [*nbgrader, "export"]),
        ("`llm-memory export --to canvas`", [*own, "export", LIGHT, "--to", "canvas"]),
        ("`llm-memory similar`", [*own, "similar", LIGHT]),
    ):
        if "one learner" in name:
            second.write(course / "submitted" / "one-more" / LIGHT, LIGHT, "solved")
        row = measure(name, command, course, LIGHT, n)
        lines.append(f"| {row.name} | {n} | {row.cpu:.1f} | {row.seconds:.1f} |")
    return "\n".join(lines)


def write_between(name: str, text: str, path: Path) -> None:
    """Put `text` between the page's markers called `name`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, rest = path.read_text(encoding="utf-8").split(begin)
    _, tail = rest.split(end)
    path.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")


def main() -> int:
    """Measure, compare, write; return 1 where scores differ."""
    # Stock nbgrader calls `alembic` by its bare name.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lesson", default="attention")
    parser.add_argument("--stock", type=int, default=12, help="submissions for stock nbgrader")
    parser.add_argument("--small", type=int, default=30, help="submissions for ours")
    parser.add_argument("--large", type=int, default=300, help="submissions for ours, at scale")
    parser.add_argument("--otter", type=int, default=4, help="submissions for Otter; 0: leave out")
    parser.add_argument("--light", type=int, default=100, help="of the second course; 0: leave out")
    parser.add_argument(
        "--many", type=int, default=1000, help="of the second course, command by command; 0: none"
    )
    parser.add_argument("--dry", action="store_true", help="do not write docs/benchmarks.md")
    options = parser.parse_args()
    lesson, cores = options.lesson, os.cpu_count() or 1
    python = sys.executable
    autograde = [python, "-m", "nbgrader", "autograde", lesson]
    grade = [python, "-m", "course_tools.cli", "grade", lesson]

    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = Path(temporary)
        ours_course = folder

        def ours(name: str, command: list[str], n: int) -> Measurement:
            nonlocal ours_course
            ours_course = folder / name.replace(" ", "-")[:40] / str(n)
            make_course(ours_course, lesson, n, False)
            return measure(name, command, ours_course, lesson, n)

        course = make_course(folder / "stock", lesson, options.stock, True)
        stock = measure("stock `nbgrader autograde`", autograde, course, lesson, options.stock)
        rows = [stock]
        if options.otter:
            rows.append(run_otter(folder / "otter", lesson, options.otter))
        one = ours("ours, `nbgrader autograde`", autograde, options.small)
        rows.append(one)
        rows.append(ours("ours, 1 worker", [*grade, "--workers=1"], options.small))
        small = ours(f"ours, {cores} workers", [*grade, f"--workers={cores}"], options.small)
        rows.append(small)
        if options.large:
            rows.append(
                ours(
                    f"ours, {cores} workers, at scale",
                    [*grade, f"--workers={cores}"],
                    options.large,
                )
            )
        nothing = measure_nothing(ours_course, lesson, course)
        feedback = measure_feedback(course, ours_course, lesson)
        light, differing = "", list[str]()
        if options.light:
            light, differing = measure_light(folder / "light", 4, options.light, cores)
        many = measure_many(folder / "many", options.many, cores) if options.many else ""
    differing += [line for row in rows[1:] if row.scores for line in compare(stock, row)]
    text = table(rows, stock)
    if options.large:
        large = rows[-1]
        ratio = (large.seconds / large.submissions) / (small.seconds / small.submissions)
        text += (
            f"\n\nAt {large.submissions} submissions, one takes {ratio:.2f} times as long as at "
            f"{small.submissions}, and the peak of memory is "
            f"{large.memory / small.memory:.2f} times as high."
        )
    text += (
        f"\n\n{platform.machine()}, {cores} cores, Python {platform.python_version()}, lesson "
        f"`{lesson}`. Scores compared cell by cell with stock nbgrader on the submissions that "
        f"both graded, quizzes aside (stock nbgrader cannot grade them): "
        f"{'no difference' if not differing else f'{len(differing)} differences'}.\n\n"
        f"Where the time of the last run goes:\n\n{profile(rows[-1])}\n\n"
        f"Nothing to do:\n\n{nothing}\n\nFeedback for the same classes:\n\n{feedback}"
    )
    if light:
        text += f"\n\nA course with light kernels (the engine's second course):\n\n{light}"
    if many:
        text += f"\n\nA large class on that course, command by command:\n\n{many}"
    print(text)
    for line in differing:
        print("differs:", line)
    if not options.dry:
        page = ROOT / "docs" / "benchmarks.md"
        write_between("grading", text, page)
        write_between("cost", cost(rows[-1], cores), page)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())

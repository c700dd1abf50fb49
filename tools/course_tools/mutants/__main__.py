"""Runs all mutants and writes what came of them into docs/mutants.md: `make mutants`."""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from course_tools.build import course
from course_tools.build.lesson import read
from course_tools.mutants.operators import mutants
from course_tools.mutants.trial import trials

EQUIVALENT = Path(__file__).with_name("equivalent.toml")


@dataclass
class Result:
    """What came of one exercise's mutants."""

    exercise: str
    made: int
    equivalent: list[str] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    #: killed by the hidden tests, although the visible check says right
    unseen: list[str] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """How many the hidden tests found."""
        return self.made - len(self.equivalent) - len(self.survivors)


def equivalents() -> dict[str, dict[str, str]]:
    """Return the mutants that do what the reference does: exercise → mutant → reason."""
    return {
        exercise: {name: reason for reason, names in reasons.items() for name in names}
        for exercise, reasons in tomllib.loads(EQUIVALENT.read_text("utf-8")).items()
    }


def main(argv: list[str] | None = None) -> int:
    """Run the mutants; return 1 where one survives or the list of equivalents is out of date."""
    parser = argparse.ArgumentParser(prog="python -m course_tools.mutants", description=__doc__)
    parser.add_argument("exercises", nargs="*", help="all, where none is named")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(argv)
    root, known = course.root(), equivalents()
    results, stale = [], []
    for lesson in course.LESSONS:
        path = root / "notebooks" / f"{lesson}.md"
        for trial in trials(read(path, root), lesson) if path.is_file() else ():
            if options.exercises and trial.exercise not in options.exercises:
                continue
            made = mutants(trial.source)
            listed = known.get(trial.exercise, {})
            result = Result(trial.exercise, len(made))
            for verdict in trial.run(made, options.processes):
                name = verdict.mutant.name
                if verdict.passes_hidden_tests:
                    (result.equivalent if name in listed else result.survivors).append(name)
                elif verdict.passes_check:
                    result.unseen.append(name)
            stale += [
                f"{trial.exercise}: {name}" for name in listed if name not in result.equivalent
            ]
            results.append(result)
            print(
                f"{result.exercise}: {result.killed} of {result.made} killed, "
                f"{len(result.equivalent)} equivalent",
                flush=True,
            )
            for name in sorted(result.survivors):
                print(f"    survives: {name}", flush=True)
            for name in sorted(result.unseen):
                print(f"    called right by the check: {name}", flush=True)
    for name in stale:
        print(f"listed as equivalent, but killed or not made: {name}")
    if not options.exercises:
        (root / "docs" / "mutants.md").write_text(report(results, known), "utf-8")
    return int(bool(stale or any(result.survivors for result in results)))


def report(results: list[Result], known: dict[str, dict[str, str]]) -> str:
    """Return the page for docs/: a row an exercise, and why equivalents are equivalent."""
    made = sum(r.made for r in results)
    killed, same = sum(r.killed for r in results), sum(len(r.equivalent) for r in results)
    unseen = sum(len(r.unseen) for r in results)
    lines = [
        "# Mutants of the reference solutions",
        "",
        "Written by `make mutants`. A mutant is a reference solution with one small fault: another",
        "operator, constant, axis or comparison; a line, an argument or an operand left out;",
        "arguments exchanged. Each meets the hidden tests of its exercise alone, without the",
        "visible check.",
        "",
        f"{killed:,} of {made:,} are killed. {same} of the other {made - killed} do what the",
        "reference does: the list below says why, `tools/course_tools/mutants/equivalent.toml`",
        "which.",
        "",
        f"Of {unseen} that the hidden tests kill, the visible check says right.",
        "",
        "| exercise | mutants | killed | equivalent | survive | right, says the check |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for r in results:
        row = (f"`{r.exercise}`", r.made, r.killed, len(r.equivalent), len(r.survivors))
        row += (len(r.unseen),)
        lines.append(f"| {' | '.join(map(str, row))} |")
    reasons = Counter(
        known[r.exercise][name] for r in results for name in r.equivalent
    ).most_common()
    lines += ["", "| why a mutant is no fault | mutants |", "|---|---:|"]
    lines += [f"| {reason} | {count} |" for reason, count in reasons]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

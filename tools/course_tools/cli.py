"""`llm-memory`: what an instructor does beyond nbgrader's own commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nbjudge import cli


def main(argv: list[str] | None = None) -> int:
    """Run a command; return the exit code (0 done, 1 something is left to do)."""
    parser = argparse.ArgumentParser(prog="llm-memory", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cli.add_commands(commands)
    # What this course's configuration and its notebooks import.
    parts = ["packages/nbjudge", "pyproject.toml", "src", "tools", "notebooks"]
    parts += ["README.md", "LICENSE", "LICENSE-lessons"]
    commands.choices["gradescope"].set_defaults(include=parts)
    publish = commands.add_parser("publish", help="assemble the learners' repository")
    publish.add_argument("folder", type=Path, help="a new folder, or a clone of that repository")
    publish.set_defaults(run=_publish)
    options = parser.parse_args(argv)
    return options.run(options)


def _publish(options: argparse.Namespace) -> int:
    from course_tools.build import course
    from course_tools.build.publish import PublishError, publish

    try:
        written = publish(course.root(), options.folder)
    except (PublishError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(written.files)} files in {options.folder}. Lessons install {written.tag} of it:")
    print(f"  git add --all && git commit -m {written.tag} && git tag {written.tag}")
    print(f"  git push origin HEAD {written.tag}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

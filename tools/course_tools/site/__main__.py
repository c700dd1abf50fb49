"""`python -m course_tools.site [FOLDER]`: write the site, by default to `build/site/`."""

from __future__ import annotations

import argparse
import html
import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import build_main

from course_tools.build import course
from course_tools.build.leaks import find_leaks, secrets
from course_tools.site import pages


def _text(path: Path) -> str:
    """Return what a reader can read of a file; of a page, its text without the colours."""
    text = path.read_text(encoding="utf-8")
    return html.unescape(re.sub(r"<[^>]+>", "", text)) if path.suffix == ".html" else text


def main(argv: list[str] | None = None) -> int:
    """Build the site; return the exit code. A warning of Sphinx's (a dead link) is an error."""
    parser = argparse.ArgumentParser(prog="python -m course_tools.site", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="default: build/site")
    options = parser.parse_args(argv)
    root = course.root()
    site = (options.folder or root / "build" / "site").resolve()
    if site.exists() and any(site.iterdir()) and not (site / "objects.inv").is_file():
        print(f"{site} holds files and is no site: name a new folder", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as temporary:
        made, built = Path(temporary) / "pages", Path(temporary) / "site"
        made.mkdir()
        pages.write(root, made)
        settings = Path(__file__).with_name("conf.py")
        shutil.copyfile(settings, made / "conf.py")
        code = build_main(["-q", "-W", "--keep-going", "-b", "html", str(made), str(built)])
        if code:
            return code
        texts = {
            path.relative_to(built).as_posix(): _text(path)
            for path in built.rglob("*")
            if path.suffix in {".html", ".js", ".ipynb"}
        }
        if leaks := find_leaks(texts, secrets(root)):
            print("not written, it would give away:", *leaks, sep="\n  ", file=sys.stderr)
            return 1
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(built, site)
    print(f"{site / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

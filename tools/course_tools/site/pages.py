"""What the site is made of: lessons without solutions, quizzes as forms, the documentation."""

from __future__ import annotations

import base64
import html
import os
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import jinja2
import nbformat
from nbformat import NotebookNode

from course_tools.build import course
from course_tools.build.lesson import grade_id, is_test, tags
from llm_memory.quiz.bank import BANK
from llm_memory.quiz.widget import marked

WIDGET = "application/vnd.jupyter.widget-view+json"
#: Documentation on the site: where it stands in the repository, and its page.
DOCUMENTS = {
    "docs/students.md": "students.md",
    "docs/instructors.md": "instructors.md",
    "docs/protection.md": "protection.md",
    "docs/jupyterhub.md": "jupyterhub.md",
    "docs/maintainers.md": "maintainers.md",
    "docs/benchmarks.md": "benchmarks.md",
    "docs/generate.md": "generate.md",
    "src/llm_memory/data/MODEL_CARD.md": "model_card.md",
    "packages/nbjudge/README.md": "nbjudge.md",
    "packages/nbjudge/docs/upstream.md": "upstream.md",
}

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=jinja2.select_autoescape(enabled_extensions=("html.j2",)),
    undefined=jinja2.StrictUndefined,
)
_templates.filters["marked"] = lambda text: jinja2.utils.markupsafe.Markup(marked(text))


def slug(title: str) -> str:
    """Return a heading's anchor as Jupyter's front ends make it: spaces are dashes, no more."""
    return title.strip().replace(" ", "-")


def write(folder: Path, target: Path) -> None:
    """Write all pages to the new or empty folder `target`.

    Raises `FileNotFoundError` where a lesson was not built.
    """
    lessons = []
    for name in course.LESSONS:
        solved = nbformat.read(folder / "source" / name / f"{name}.ipynb", as_version=4)
        released = folder / "release" / name / f"{name}.ipynb"
        page = lesson_page(folder, name, solved, nbformat.read(released, as_version=4), target)
        (target / "lessons").mkdir(parents=True, exist_ok=True)
        nbformat.write(page, target / "lessons" / f"{name}.ipynb")
        (target / "downloads").mkdir(exist_ok=True)
        shutil.copyfile(released, target / "downloads" / f"{name}.ipynb")
        lessons.append({"name": name, "title": _title(page)})
    (target / "pictures").mkdir(exist_ok=True)
    shutil.copyfile(folder / "docs" / "lesson.png", target / "pictures" / "lesson.png")
    there = {place: page for place, page in DOCUMENTS.items() if (folder / place).is_file()}
    for place, page in there.items():
        text = (folder / place).read_text(encoding="utf-8")
        (target / page).write_text(relink(text, Path(place), folder, target), encoding="utf-8")
    readme = (folder / "README.md").read_text(encoding="utf-8")
    index = _templates.get_template("index.md.j2").render(
        intro=relink(readme.split("\n\n")[1], Path("README.md"), folder, target),
        lessons=lessons,
        pages=[page.removesuffix(".md") for page in there.values()],
    )
    (target / "index.md").write_text(index, encoding="utf-8")
    shutil.copytree(Path(__file__).with_name("static"), target / "static")


def lesson_page(
    folder: Path, name: str, solved: NotebookNode, released: NotebookNode, target: Path
) -> NotebookNode:
    """Return a lesson as it is read: released sources, outputs of the solved run, quizzes as forms.

    Exercises stay as learners get them, and checks and tests have no output: there is nothing on
    the page that they were run on. Pictures are written to `target`'s folder `pictures`.
    """
    outputs = {cell.id: cell.get("outputs", []) for cell in solved.cells}
    address = course.repository(folder)
    cells = []
    for cell in released.cells:
        quiz = re.fullmatch(r'quiz\("([\w-]+)"\)', cell.source.strip())
        if quiz:
            form = _templates.get_template("quiz.html.j2").render(quiz=BANK[quiz[1]])
            cells.append(nbformat.v4.new_markdown_cell(form, id=cell.id))
        elif cell.cell_type == "markdown":
            cell.source = _linked(cell.source)
            cells.append(cell)
        elif "setup" not in tags(cell) and "hand_in(" not in cell.source:
            tried = is_test(cell) or cell.source.lstrip().startswith("check(")
            shown = [] if tried else outputs.get(cell.id, [])
            cell.outputs = _outputs(shown, f"{name}-{cell.id}", target / "pictures")
            if "answer" in tags(cell) and cell.outputs:
                cell.outputs = [_folded(cell.outputs)]
            cell.metadata = NotebookNode(tags=[])
            cells.append(cell)
            if grade_id(cell) or "raise NotImplementedError" in cell.source:
                cells.append(_open(address, name, cell.id))
    return nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": released.metadata.kernelspec}
    )


def _open(address: str, lesson: str, cell: str) -> NotebookNode:
    """Return a line of links below an exercise: where it can be written."""
    text = (
        f'<p class="course-open">Write it: '
        f'<a href="{course.colab(address, lesson)}">open in Colab</a> · '
        f'<a href="{html.escape(course.binder(address, lesson))}">open on Binder</a> · '
        f'<a href="../_static/{lesson}.ipynb" download>download the notebook</a></p>'
    )
    return nbformat.v4.new_markdown_cell(text, id=f"{cell}-open"[:64])


def _outputs(shown: list[NotebookNode], name: str, pictures: Path) -> list[NotebookNode]:
    """Return outputs as a page shows them: pictures as files, with their words; no widgets."""
    kept = []
    for index, output in enumerate(shown):
        data = output.get("data", {})
        if "image/png" in data:
            pictures.mkdir(parents=True, exist_ok=True)
            file = f"{name}-{index}.png"
            (pictures / file).write_bytes(base64.b64decode(data["image/png"]))
            words = html.escape(data.get("text/plain", ""))
            image = f'<img class="course-picture" src="../_static/{file}" alt="{words}" />'
            kept.append(nbformat.v4.new_output("display_data", {"text/html": image}))
        elif output.output_type == "stream" or "text/html" in data or WIDGET not in data:
            data.pop(WIDGET, None)
            kept.append(output)
    return kept


def _folded(outputs: list[NotebookNode]) -> NotebookNode:
    """Return outputs as one that is opened by a click: they answer the guess above them."""
    parts = [
        f"<pre>{html.escape(output.text)}</pre>"
        if output.output_type == "stream"
        else output.data.get("text/html", "")
        for output in outputs
    ]
    text = "<details><summary>What comes out, once you have guessed</summary>{}</details>"
    return nbformat.v4.new_output("display_data", {"text/html": text.format("".join(parts))})


def _title(page: NotebookNode) -> str:
    first = next(cell.source for cell in page.cells if cell.cell_type == "markdown")
    return re.search(r"^# (.+)$", first, re.MULTILINE)[1]


def _linked(source: str) -> str:
    """Return a lesson's Markdown with its links to lessons and headings as the site has them.

    Badges become words: their pictures would be fetched from elsewhere.
    """
    source = re.sub(r"\[!\[([^]]+)\]\(https?:[^)]+\)\]", r"[\1]", source)
    source = re.sub(r"\]\(\.\./(\w+)/\1\.ipynb", r"](\1.ipynb", source)
    return re.sub(r"\]\((#[^)\s]+)\)", lambda link: f"](<{unquote(link[1])}>)", source)


def relink(text: str, place: Path, folder: Path, target: Path) -> str:
    """Return a document's Markdown with links that work on the site.

    What is a page there is linked as one, a picture is copied, and any other file of the
    repository is linked where it is published.
    """
    address = course.repository(folder)
    here = Path(DOCUMENTS.get(place.as_posix(), place)).parent

    def new(link: re.Match[str]) -> str:
        path, _, anchor = link[2].partition("#")
        if not path or re.match(r"\w+:", path):
            return link[0]
        there = os.path.normpath(place.parent / path)
        anchor = f"#{anchor}" if anchor else ""
        if there in DOCUMENTS:
            return f"{link[1]}({os.path.relpath(DOCUMENTS[there], here)}{anchor})"
        if there.endswith((".png", ".svg")):
            (target / "pictures").mkdir(exist_ok=True)
            shutil.copyfile(folder / there, target / "pictures" / Path(there).name)
            return f"{link[1]}(pictures/{Path(there).name})"
        kind = "tree" if (folder / there).is_dir() else "blob"
        return f"{link[1]}({address}/{kind}/main/{there}{anchor})"

    return re.sub(r"(\])\(([^)\s]+)\)", new, text)

// Answers a quiz on the page: the feedback of the option that was chosen, at once, without a kernel.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form.course-quiz");
  if (!form) return;
  const chosen = event.target;
  const words = form.querySelector(`template[data-option="${CSS.escape(chosen.value)}"]`);
  const place = form.querySelector(".course-quiz-feedback");
  place.replaceChildren(words.content.cloneNode(true));
  place.dataset.verdict =
    form.dataset.graded !== "true" ? "guess" : chosen.dataset.correct === "true" ? "right" : "wrong";
});

// What is wider than the page scrolls by itself, and then the keyboard has to reach it.
function reachable() {
  for (const part of document.querySelectorAll(".bd-article table, .bd-article div.math")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);

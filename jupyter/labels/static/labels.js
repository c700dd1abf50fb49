// Names for what JupyterLab and ipywidgets leave without one: a picture, the handle of a slider, a
// group of radio buttons. A screen reader then says what the picture shows, the slider's label and
// its value in words, and a quiz's question and options. JupyterLab loads this as it is; there is
// nothing to compile.
(() => {
  const SLIDERS = ".widget-hslider, .widget-vslider";
  const STYLE = `
    .noUi-handle:focus-visible,
    .widget-radio-box input:focus-visible {
      outline: 2px solid var(--jp-brand-color1, #1976d2);
      outline-offset: 2px;
    }`;
  let count = 0;

  // Mutations are watched, so an attribute that is right already must not be set again.
  function set(element, name, value) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }

  function idOf(element) {
    if (!element.id) element.id = `llm-memory-label-${++count}`;
    return element.id;
  }

  function nameSlider(widget) {
    const label = widget.querySelector(".widget-label");
    const readout = widget.querySelector(".widget-readout");
    for (const handle of widget.querySelectorAll(".noUi-handle")) {
      if (label) set(handle, "aria-labelledby", idOf(label));
      if (readout) set(handle, "aria-valuetext", readout.textContent);
    }
  }

  // A quiz writes question and options as text, which is there without a kernel, too.
  function nameRadios(widget) {
    const label = widget.querySelector(".widget-label");
    const box = widget.querySelector(".widget-radio-box");
    if (!label || !box) return;
    const cell = widget.closest(".jp-OutputArea");
    const question = cell?.querySelector(".llm-memory-question");
    const options = cell?.querySelectorAll(".llm-memory-option") ?? [];
    set(box, "role", "radiogroup");
    set(box, "aria-labelledby", [question, label].filter(Boolean).map(idOf).join(" "));
    box.querySelectorAll("input[type=radio]").forEach((radio, index) => {
      if (options[index]) set(radio, "aria-labelledby", idOf(options[index]));
    });
  }

  // JupyterLab drops the alternative of a PNG. Our pictures say in the next output what they show.
  function namePicture(image) {
    const next = image.closest(".jp-OutputArea-child")?.nextElementSibling;
    const words = next?.querySelector("details");
    const summary = words?.querySelector("summary");
    if (summary) set(image, "alt", words.textContent.slice(summary.textContent.length));
  }

  function nameAll() {
    document.querySelectorAll(".jp-RenderedImage img").forEach(namePicture);
    document.querySelectorAll(SLIDERS).forEach(nameSlider);
    document.querySelectorAll(".widget-radio").forEach(nameRadios);
  }

  function activate() {
    document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
    let waiting = false;
    new MutationObserver(() => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        nameAll();
      });
    }).observe(document.body, {
      attributeFilter: ["aria-valuetext"],
      attributes: true,
      characterData: true,
      childList: true,
      subtree: true,
    });
  }

  const plugin = { id: "llm-memory-labels:plugin", autoStart: true, activate };
  const extension = { __esModule: true, default: plugin };
  (window._JUPYTERLAB ??= {})["llm-memory-labels"] = {
    init: () => {},
    get: () => Promise.resolve(() => extension),
  };
})();

"use strict";
(() => {
  // Without a mouse, dragging scrolls the page, and there is no bar of buttons in the way.
  const mouse = matchMedia("(hover: hover)").matches;
  const config = { displaylogo: false, responsive: true, displayModeBar: mouse && "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // The digits of Python's base64.b85encode in their order, but "," where it has the less-than sign.
  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";

  // Five digits, the highest first, are four bytes. A last group with fewer is filled up with the
  // highest digit; of its bytes, one less counts than it had digits.
  const decodeBase85 = (text) => {
    const value = new Uint8Array(128);
    [...DIGITS].forEach((digit, index) => { value[digit.charCodeAt(0)] = index; });
    const groups = Math.ceil(text.length / 5);
    const digits = text.padEnd(5 * groups, "~");
    const view = new DataView(new ArrayBuffer(4 * groups));
    for (let group = 0; group < groups; group += 1) {
      let sum = 0;
      for (let at = 5 * group; at < 5 * group + 5; at += 1) sum = 85 * sum + value[digits.charCodeAt(at)];
      view.setUint32(4 * group, sum);
    }
    return new Uint8Array(view.buffer, 0, Math.floor(4 * text.length / 5));
  };

  // The text that frame.py packed into the script element with this id.
  const unpack = (id) => {
    const bytes = decodeBase85(document.getElementById(id).textContent);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };

  // Appended, an inline script runs at once. It is removed so that a saved page does not hold it twice.
  const run = (source) => {
    const script = document.createElement("script");
    script.textContent = source;
    document.body.append(script);
    script.remove();
  };

  // Colours of text and lines follow the page's; those of the data are the same in light and dark.
  const themed = (layout) => {
    const update = { "font.color": colour("--soft"), "hoverlabel.bgcolor": colour("--card"), "hoverlabel.font.color": colour("--ink") };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      for (const line of ["gridcolor", "linecolor", "zerolinecolor"]) update[axis + "." + line] = colour("--grid");
    }
    (layout.annotations ?? []).forEach((_, index) => { update[`annotations[${index}].bgcolor`] = colour("--card"); });
    return update;
  };

  const places = [...document.querySelectorAll(".plot")];
  let plots = []; // the places with a figure: none while Plotly loads, or where it fails
  const recolour = () => Promise.all(plots.map((plot) => Plotly.relayout(plot, themed(plot.layout))));

  const drawFigure = (place, { data, layout }) => {
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: "#8a94a0", activecolor: colour("--winner") };
    layout.dragmode = mouse && "zoom";
    if (!mouse) layout.margin.t = Math.max(8, layout.margin.t - 22);
    return Plotly.newPlot(place, data, layout, config);
  };

  const drawFigures = async () => {
    const [figures, plotly] = await Promise.all([unpack("figures").then(JSON.parse), unpack("plotly")]);
    run(plotly);
    plots = await Promise.all(places.map((place) => drawFigure(place, figures[place.id.slice("figure-".length)])));
    await recolour();
  };

  const explain = (sentence) => places.forEach((place) => {
    const paragraph = document.createElement("p");
    paragraph.className = "reading";
    paragraph.textContent = sentence;
    place.replaceWith(paragraph);
  });

  // Sets data-drawn on the body when it is done: the number of figures that were drawn.
  const showFigures = async () => {
    try {
      if (places.length > 0 && !("DecompressionStream" in window)) explain("Figures need a browser of 2023 or later.");
      else if (places.length > 0) await drawFigures();
    } catch (error) {
      console.error(error);
      explain("The figures could not be drawn. The browser's console says why.");
    }
    document.body.dataset.drawn = plots.length;
  };
  showFigures();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

  // On paper everything is open, and figures are as wide as the paper.
  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  matchMedia("print").addEventListener("change", (media) => {
    if (media.matches) {
      opened = [...folded()];
      opened.forEach((details) => { details.open = true; });
    } else {
      opened.forEach((details) => { details.open = false; });
    }
    recolour();
    plots.forEach((plot) => Plotly.Plots.resize(plot));
  });

  document.querySelectorAll("[data-copy]").forEach((button) => {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });

  // Sorting: by data-value as a number where there is one, else as text; no data always last.
  const key = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
  document.querySelectorAll("th button").forEach((button) => {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const up = head.getAttribute("aria-sort") !== "ascending";
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].map((row) => [key(row, head.cellIndex), row]);
      rows.sort(([a], [b]) => Number.isNaN(a) - Number.isNaN(b) || (up ? compare(a, b) : compare(b, a)));
      body.append(...rows.map(([, row]) => row));
      head.parentElement.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
    });
  });
})();

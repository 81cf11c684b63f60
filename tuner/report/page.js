"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  // Without a mouse, dragging scrolls the page, and there is no bar of buttons in the way.
  const mouse = matchMedia("(hover: hover)").matches;
  const config = { displaylogo: false, responsive: true, displayModeBar: mouse && "hover", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Colours of text and lines follow the page's; those of the data are the same in light and dark.
  const themed = (layout) => {
    const update = { "font.color": colour("--soft"), "hoverlabel.bgcolor": colour("--card"), "hoverlabel.font.color": colour("--ink") };
    for (const axis of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
      for (const line of ["gridcolor", "linecolor", "zerolinecolor"]) update[axis + "." + line] = colour("--grid");
    }
    (layout.annotations ?? []).forEach((_, index) => { update[`annotations[${index}].bgcolor`] = colour("--card"); });
    return update;
  };
  const plots = Object.keys(figures).map((name) => document.getElementById("figure-" + name));
  const recolour = () => plots.forEach((plot) => Plotly.relayout(plot, themed(plot.layout)));
  const drawn = plots.map((plot) => {
    const { data, layout } = figures[plot.id.slice("figure-".length)];
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: "#8a94a0", activecolor: colour("--winner") };
    layout.dragmode = mouse && "zoom";
    if (!mouse) layout.margin.t -= 22;
    return Plotly.newPlot(plot, data, layout, config);
  });
  Promise.all(drawn).then(recolour).then(() => { document.body.dataset.drawn = plots.length; });
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

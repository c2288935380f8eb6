// Trainings: of each a map of its layers over its steps with what happened there, and its loss.

const MAP = { left: 118, right: 62, width: 720, row: 18, top: 20 };

class RunPage extends Page {
  parts() {
    const { feature, page } = this;
    const events = page.events.length;
    const said = events ? `${events} event${events === 1 ? "" : "s"} beyond the null.` : "No event beyond the null.";
    const facts = [["data", feature.dataset], ["parameters", number(feature.parameters)],
      ["accuracy", `${fixed(feature.accuracy, 3)}, by chance ${fixed(feature.chance, 3)}`],
      ["steps", `${number(feature.num_steps)}, measured every ${number(feature.interval)}`], ["seed", number(feature.seed)]];
    return [this.back(), ...this.title(said, facts), ...page.measures.flatMap((measure) => this.map(measure)), ...this.loss()];
  }

  x(share) {
    return Number((MAP.left + (MAP.width - MAP.left - MAP.right) * share).toFixed(2));
  }

  step(step) {
    const [first, last] = this.page.steps;
    return this.x(last > first ? (step - first) / (last - first) : 0);
  }

  // A row a site, from the input at the top; each from its own least value to its own largest.
  map({ name, key, values, low, high }) {
    const { sites, events } = this.page;
    const height = MAP.top + sites.length * MAP.row + 22;
    const svg = shape("svg", { class: "plot map", viewBox: `0 0 ${MAP.width} ${height}`, role: "img", "aria-label": `${name} by layer and step` });
    svg.append(shape("text", { x: MAP.width, y: 12, "text-anchor": "end" }, "least – largest"));
    const wide = this.x(1 / Math.max(1, values[0]?.length ?? 1)) - this.x(0) + 0.3;
    sites.forEach((site, row) => {
      const y = MAP.top + row * MAP.row, span = high[row] - low[row];
      values[row].forEach((value, at) => {
        if (value === null) return;
        const share = span > 0 ? (value - low[row]) / span : 0;
        svg.append(shape("rect", { class: "cell", x: this.x(at / values[row].length), y, width: wide.toFixed(2), height: MAP.row - 1, "fill-opacity": (0.05 + 0.95 * share).toFixed(3) }));
      });
      const label = shape("text", { x: MAP.left - 6, y: y + 13, "text-anchor": "end" }, site.length > 18 ? `…${site.slice(-17)}` : site);
      label.append(shape("title", {}, site));
      svg.append(label, shape("text", { x: MAP.width, y: y + 13, "text-anchor": "end" }, `${number(low[row], 2)} – ${number(high[row], 2)}`));
    });
    for (const [measure, row, step, first, last, direction, amplitude, dated] of events) {
      if (measure !== key) continue;
      const y = MAP.top + row * MAP.row + MAP.row / 2 - 0.5;
      const date = `${dated ? `step ${number(step)}` : "some step"} (${number(first)} to ${number(last)})`;
      const mark = shape("g", { class: dated ? "event" : "event open", on: {
        pointerenter: (event) => tell(`${sites[row]}, ${date}: ${number(amplitude, 2, true)}`, event.clientX, event.clientY),
        pointerleave: hush,
      } }, shape("line", { x1: this.step(first), x2: this.step(last), y1: y, y2: y }),
      shape("path", { d: `M${this.step(step)} ${y}m-4 ${direction === "up" ? 3 : -3}h8l-4 ${direction === "up" ? -7 : 7}z` }));
      svg.append(mark);
    }
    this.ends(svg, height - 6);
    const own = events.filter(([measure]) => measure === key);
    const undated = own.filter((event) => !event.at(-1)).length;
    const dates = "Triangles: events, up or down, with the 95 % interval of their date"
      + (undated ? `; hollow: ${undated} that could lie anywhere in half of the training or more. ` : ". ");
    return [make("h4", {}, `${name[0].toUpperCase()}${name.slice(1)}`),
      make("p", { class: "small" }, `${own.length ? dates : ""}From the input, above, to the output.`), svg];
  }

  ends(svg, y) {
    const [first, last] = this.page.steps;
    svg.append(shape("text", { x: this.x(0), y }, `step ${number(first)}`), shape("text", { x: this.x(1), y, "text-anchor": "end" }, number(last)));
  }

  loss() {
    const { loss, steps } = this.page;
    const known = loss.filter((value) => value !== null);
    if (known.length < 2) return [];
    const plot = new Plot(steps, [Math.min(0, ...known), Math.max(...known)], "training step", "loss");
    let path = "";
    loss.forEach((value, at) => {
      if (value === null) return;
      const step = steps[0] + ((at + 0.5) / loss.length) * (steps[1] - steps[0]);
      path += `${path ? "L" : "M"}${plot.x(step)} ${plot.y(value)}`;
    });
    plot.add("path", { class: "course", d: path });
    plot.ticks([[steps[0], number(steps[0])], [steps[1], number(steps[1])]], [[0, "0"], [Math.max(...known), number(Math.max(...known), 2)]]);
    return [make("h4", {}, "Loss"), plot.svg];
  }
}

VIEWS.runs = class {
  static async read() {
    return new VIEWS.runs(await data("index"));
  }

  constructor(index) {
    this.noun = "training";
    const seeds = new Set(index.seed).size > 1; // the data stand in a column of their own
    this.features = index.runs.map((run, row) => ({
      row, feature: row, site: "runs", key: `${run}/${row}`, name: run, shown: seeds ? `${index.architecture[row]} ${index.seed[row]}` : index.architecture[row], family: index.family[row], dataset: index.dataset[row],
      architecture: index.architecture[row], seed: index.seed[row], parameters: index.parameters[row], num_steps: index.num_steps[row],
      interval: index.interval[row], accuracy: index.final_accuracy[row], chance: index.chance_accuracy[row],
      events: index.events[row], spark: index.spark[row] ?? [], token: "", mark: index.events[row] ? "labelled" : "",
    }));
    this.columns = [
      { name: "row", label: "training", long: true },
      { name: "dataset", label: "data", text: true },
      { name: "accuracy", label: "accuracy", show: (value) => fixed(value, 2), number: true, wide: true },
      { name: "events", label: "events", show: (value) => number(value), number: true },
      { name: "spark", label: "course", wide: true },
    ];
    this.sort = { name: "events", down: true, told: "most events first" };
    this.choices = [
      { id: "family", label: "Family", all: "any family", of: (feature) => feature.family },
      { id: "dataset", label: "Data", all: "any data", of: (feature) => feature.dataset },
    ];
  }

  haystack(feature) {
    return [feature.name, feature.family, feature.architecture, feature.dataset].join("\n");
  }

  async parts(browser, feature) {
    return new RunPage(browser, feature, await data(`run-${feature.row}`)).parts();
  }
};

// The parts of a feature's page that every view has: title, facts, contexts, histogram, logits.

class Page {
  constructor(browser, feature, page) {
    Object.assign(this, { browser, feature, page });
  }

  back() {
    return make("button", { type: "button", class: "back", on: { click: () => this.browser.list() } }, `← all ${this.browser.view.noun ?? "feature"}s`);
  }

  title(said, facts) {
    const { feature } = this;
    const head = make("div", { class: "title" }, make("h3", {}, feature.name),
      make("span", { class: "small" }, feature.key));
    const list = make("dl", { class: "facts" }, ...facts.map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    return [head, make("p", { class: "said" }, said), list];
  }

  // Contexts as { group, tokens, activation, force?, peak, place }, in groups with a title each.
  contexts(contexts, groups, legend) {
    if (!contexts.length) return [];
    const most = (name) => Math.max(1e-12, ...contexts.flatMap((context) => (context[name] ?? []).map((v) => Math.abs(v ?? 0))));
    this.scale = { activation: most("activation"), force: most("force") };
    const box = make("div", { class: "contexts" });
    for (const [group, title] of groups) {
      const some = contexts.filter((context) => context.group === group);
      if (some.length) box.append(make("p", { class: "group" }, title), ...some.map((context) => this.context(context)));
    }
    const wrap = make("button", { type: "button", "aria-pressed": "false", on: { click: () => {
      wrap.setAttribute("aria-pressed", String(box.classList.toggle("whole")));
    } } }, "whole contexts");
    return [make("h4", {}, "In context"), make("p", { class: "small" }, `${legend} `, wrap), box];
  }

  context(context) {
    const tokens = context.tokens.map((_, at) => this.token(context, at));
    const line = make("div", { class: "line" },
      make("span", { class: "before" }, make("span", {}, ...tokens.slice(0, context.peak))),
      make("span", { class: "peak" }, ...tokens.slice(context.peak, context.peak + 1)),
      make("span", { class: "after" }, ...tokens.slice(context.peak + 1)));
    return make("div", { class: "context" }, line, make("span", { class: "small", title: context.place }, context.place));
  }

  token(context, at) {
    const activation = context.activation[at] ?? 0;
    const force = context.force?.[at] ?? 0;
    const side = force > 0 ? " down" : force < 0 ? " up" : "";
    const mark = make("span", { class: `tok${side}${at === context.peak ? " top" : ""}`, on: {
      pointerenter: (event) => tell(this.told(activation, force), event.clientX, event.clientY),
      pointerleave: hush,
    } }, context.tokens[at]);
    mark.style.setProperty("--active", Math.max(0, activation) / this.scale.activation);
    if (context.force) mark.style.setProperty("--force", Math.min(1, Math.sqrt(Math.abs(force) / this.scale.force)));
    return mark;
  }

  // Bars between edges; `told` writes what an edge is in units of activation.
  histogram(counts, edges, told = (edge) => number(edge, 2)) {
    if (!counts.length) return make("div");
    const plot = new Plot([edges[0], edges.at(-1)], [0, Math.log10(1 + Math.max(...counts))], "activation", "active tokens (log scale)");
    let path = "";
    counts.forEach((count, i) => {
      const [left, right] = [plot.x(edges[i]), plot.x(edges[i + 1])];
      path += `M${left} ${plot.y(0)}V${plot.y(Math.log10(1 + count))}H${Math.max(left + 0.5, right - 1)}V${plot.y(0)}z`;
    });
    plot.add("path", { class: "bars", d: path });
    const ends = [edges[0], edges.at(-1)].map((edge) => [edge, told(edge)]);
    plot.ticks(ends, [[0, "0"], [Math.log10(1 + Math.max(...counts)), number(Math.max(...counts))]]);
    return make("div", {}, make("h4", {}, "How active it is"), plot.svg);
  }

  logits(raised, lowered, note = null) {
    const most = Math.max(1e-12, ...[...raised, ...lowered].map(([, value]) => Math.abs(value)));
    const side = (title, pairs, less) => make("div", {}, make("h4", {}, title), measures(pairs, most, less));
    return [make("div", { class: "pair" },
      side("Logits it raises most, through the lens", raised, false),
      side("Logits it lowers most, through the lens", lowered, true)),
      note && make("p", { class: "small" }, note)].filter(Boolean);
  }

  neighbours(ids, cosines, note = null) {
    if (!ids.length) return [];
    const items = ids.map((id, i) => {
      const near = this.browser.byKey.get(`${this.feature.site}/${id}`);
      const token = near?.token.trim() ? ` “${near.token.trim()}”` : "";
      return make("li", {}, near ? this.browser.link(near) : String(id), `${token} ${number(cosines[i], 2, true)}`);
    });
    return [make("h4", {}, "Neighbours, by cosine of decoder rows"), note && make("p", { class: "small" }, note),
      make("ul", { class: "neighbours" }, ...items)].filter(Boolean);
  }
}

// Names with bars from a common zero.
function measures(pairs, most, less) {
  const low = Math.min(0, ...pairs.map(([, value]) => value)) / most;
  const places = Math.max(0, 1 - Math.floor(Math.log10(most)));
  const span = Math.max(0, ...pairs.map(([, value]) => value)) / most - low || 1;
  return make("div", { class: "measures" }, ...pairs.flatMap(([name, value]) => {
    const bar = make("i");
    bar.style.left = `${100 * (Math.min(0, value / most) - low) / span}%`;
    bar.style.width = `${100 * Math.abs(value) / most / span}%`;
    return [make("span", { class: "name", title: name }, name),
      make("span", { class: less ? "gauge less" : "gauge", "aria-hidden": "true" }, bar),
      make("span", { class: "n" }, fixed(value, places, true))];
  }));
}

function spark(counts) {
  const most = Math.log10(1 + Math.max(1, ...counts));
  const step = 56 / Math.max(1, counts.length);
  const path = counts.map((count, i) => {
    const height = (15 * Math.log10(1 + count)) / most;
    return `M${(i * step).toFixed(1)} 16v${-height.toFixed(1)}h${Math.max(0.6, step - 0.6).toFixed(1)}v${height.toFixed(1)}z`;
  }).join("");
  return shape("svg", { class: "spark", viewBox: "0 0 56 16", "aria-hidden": "true" }, shape("path", { d: path }));
}

class Plot {
  constructor([left, right], [low, high], across, up) {
    Object.assign(this, { left, right: right === left ? left + 1 : right, low, high: high === low ? low + 1 : high });
    this.svg = shape("svg", { class: "plot", viewBox: "0 0 340 210", role: "img", "aria-label": `${up} against ${across}` },
      shape("text", { x: 40, y: 10 }, up), shape("text", { x: 190, y: 206, "text-anchor": "middle" }, across),
      shape("line", { class: "axis", x1: 40, x2: 335, y1: 176, y2: 176 }));
  }

  x(value) { return Number((40 + (290 * (value - this.left)) / (this.right - this.left)).toFixed(1)); }

  y(value) { return Number((176 - (152 * (value - this.low)) / (this.high - this.low)).toFixed(1)); }

  add(tag, attributes) { this.svg.append(shape(tag, attributes)); }

  ticks(across, up) {
    across.forEach(([value, text], i) => this.svg.append(
      shape("text", { x: this.x(value), y: 191, "text-anchor": i ? "end" : "start" }, text)));
    for (const [value, text] of up) {
      this.svg.append(shape("text", { x: 35, y: this.y(value) + 4, "text-anchor": "end" }, text));
    }
  }
}


// The page of one feature: numbers, contexts, histogram, force, logits, neighbours, effects.

const GROUPS = [
  ["top", "Where it is most active"],
  ["upper quarter", "In the upper quarter of its activations"],
  ["median", "Around its median activation"],
  ["off, large force", "Off, though the force on it is large"],
];

class Page {
  constructor(browser, feature) {
    Object.assign(this, { browser, feature, page: feature.page });
  }

  parts() {
    const { page } = this;
    const back = make("button", { type: "button", class: "back", on: { click: () => {
      $("browser").dataset.view = "list";
    } } }, "← all features");
    if (!page) {
      const why = "No contexts were kept for this feature: only the surest, the intervened on and a random few have them.";
      return [back, ...this.title(), make("p", { class: "small" }, why)];
    }
    return [back, ...this.title(), ...this.contexts(), this.plots(), this.logits(), ...this.neighbours(), ...this.classes()];
  }

  title() {
    const { feature } = this;
    const head = make("div", { class: "title" }, make("h3", {}, feature.name),
      make("span", { class: "small" }, feature.key));
    const facts = make("dl", { class: "facts" }, ...this.facts().map(([name, value]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    return [head, make("p", { class: "said" }, this.verdict()), facts];
  }

  verdict() {
    const { feature } = this;
    const said = {
      attractor: "Attractor: active where it lowers the energy, beyond chance",
      repulsor: "Repulsor: active where it raises the energy, beyond chance",
      "within chance": "Within chance: its alignment is no larger than a null gives",
    }[feature.verdict];
    if (!said) return `${feature.verdict[0].toUpperCase()}${feature.verdict.slice(1)}.`;
    const again = { yes: "; each half of the documents finds it alone",
      no: "; not found by each half of the documents alone" }[feature.replicated] ?? "";
    return `${said} (family-wise p ${relation(feature.p_max_t)})${again}.`;
  }

  facts() {
    const { feature, page } = this;
    const facts = [
      ["EFAS", interval(feature.efas, feature.low, feature.high)],
      ["q", chance(feature.q)],
      ["density", `${percent(feature.density)} of tokens`],
      ["evidence", `${number(feature.n_active)} tokens, ${number(feature.n_documents)} documents`],
      ["attribution", `${number(feature.attribution, 3, true)} nats/token`],
    ];
    for (const [energy, label] of [["tuned", "tuned lens"], ["surprisal", "surprisal"],
      ["free_energy", "free energy"], ["entropy", "entropy"]]) {
      const efas = feature[`efas_${energy}`];
      if (efas !== undefined) {
        facts.push([`EFAS of ${label}`, `${fixed(efas, 3, true)}, p ${relation(feature[`p_max_t_${energy}`])}`]);
      }
    }
    if (page && page.ablation_measured !== null) {
      facts.push(
        ["ablation, measured", `${interval(page.ablation_measured, page.ablation_low, page.ablation_high)} nats`],
        ["ablation, predicted", `${number(page.ablation_predicted, 3, true)} nats`],
        ["random step of that size", `${number(page.ablation_random, 2, true)} nats`],
        ["doubling, measured", `${number(page.double_measured, 3, true)} nats`],
        ["contexts of ablation", `${number(page.ablation_contexts)}, KL ${number(page.kl_mean, 2)} nats`],
      );
    }
    if (page?.shift_states) {
      const share = (value) => `${number(100 * value, 2)} %`;
      facts.push(
        ["attractor shift", `${number(page.shift_angle, 2)} rad, random step ${number(page.shift_angle_random, 2)}`],
        ["ends in another basin", `${share(page.shift_switched)} of ${number(page.shift_states)}, random step ${share(page.shift_switched_random)}`],
      );
    }
    return facts;
  }

  contexts() {
    const { contexts } = this.page;
    if (!contexts.length) return [];
    const most = (name) => Math.max(1e-12, ...contexts.flatMap((context) => context[name].map((v) => Math.abs(v ?? 0))));
    this.scale = { activation: most("activation"), force: most("force") };
    const box = make("div", { class: "contexts" });
    for (const [group, title] of GROUPS) {
      const some = contexts.filter((context) => context.group === group);
      if (some.length) box.append(make("p", { class: "group" }, title), ...some.map((context) => this.context(context)));
    }
    const wrap = make("button", { type: "button", "aria-pressed": "false", on: { click: () => {
      wrap.setAttribute("aria-pressed", String(box.classList.toggle("whole")));
    } } }, "whole contexts");
    const legend = make("p", { class: "small" },
      "Background: activation. Underline: force on the energy, blue where more of the feature lowers it, vermilion where it raises it. Point at a token for both numbers. ", wrap);
    return [make("h4", {}, "In context"), legend, box];
  }

  context(context) {
    const tokens = context.tokens.map((_, at) => this.token(context, at));
    const line = make("div", { class: "line" },
      make("span", { class: "before" }, make("span", {}, ...tokens.slice(0, context.peak))),
      make("span", { class: "peak" }, ...tokens.slice(context.peak, context.peak + 1)),
      make("span", { class: "after" }, ...tokens.slice(context.peak + 1)));
    const place = `${this.browser.documents[context.document]}, token ${number(context.position)}`;
    return make("div", { class: "context" }, line, make("span", { class: "small", title: place }, place));
  }

  token(context, at) {
    const [activation, force] = [context.activation[at] ?? 0, context.force[at] ?? 0];
    const side = force > 0 ? " down" : force < 0 ? " up" : "";
    const text = this.browser.tokens[context.tokens[at]];
    const mark = make("span", { class: `tok${side}${at === context.peak ? " top" : ""}`, on: {
      pointerenter: (event) => tell(`activation ${number(activation)}\nforce ${number(force, 3, true)} nats per unit`, event.clientX, event.clientY),
      pointerleave: hush,
    } }, text);
    mark.style.setProperty("--active", Math.max(0, activation) / this.scale.activation);
    mark.style.setProperty("--force", Math.min(1, Math.sqrt(Math.abs(force) / this.scale.force)));
    return mark;
  }

  plots() {
    return make("div", { class: "pair" }, this.histogram(), this.scatter());
  }

  histogram() {
    const { activation_counts: counts, activation_edges: edges } = this.page;
    if (!counts.length) return make("div");
    const plot = new Plot([edges[0], edges.at(-1)], [0, Math.log10(1 + Math.max(...counts))], "activation", "active tokens (log scale)");
    let path = "";
    counts.forEach((count, i) => {
      const [left, right] = [plot.x(edges[i]), plot.x(edges[i + 1])];
      path += `M${left} ${plot.y(0)}V${plot.y(Math.log10(1 + count))}H${Math.max(left + 0.5, right - 1)}V${plot.y(0)}z`;
    });
    plot.add("path", { class: "bars", d: path });
    plot.ticks([edges[0], edges.at(-1)], [[0, "0"], [Math.log10(1 + Math.max(...counts)), number(Math.max(...counts))]]);
    return make("div", {}, make("h4", {}, "How active it is"), plot.svg);
  }

  scatter() {
    const { scatter_activation: a, scatter_force: f } = this.page;
    if (!a.length) return make("div");
    const [right, low, high] = [Math.max(...a), Math.min(0, ...f), Math.max(0, ...f)];
    const plot = new Plot([0, right], [low, high], "activation", "force −∂E/∂a (nats per unit)");
    const { scatter_slope: slope, scatter_intercept: intercept, scatter_null_low: from, scatter_null_high: to } = this.page;
    if (from !== null && to !== null && intercept !== null && slope !== null) {
      const middle = a.reduce((sum, value) => sum + value, 0) / a.length;
      const level = intercept + slope * middle;
      const at = (line, x) => plot.y(Math.max(low, Math.min(high, level + line * (x - middle))));
      plot.add("path", { class: "null", d: `M${plot.x(0)} ${at(from, 0)}L${plot.x(right)} ${at(from, right)}V${at(to, right)}L${plot.x(0)} ${at(to, 0)}z` });
    }
    plot.add("line", { class: "zero", x1: plot.x(0), x2: plot.x(right), y1: plot.y(0), y2: plot.y(0) });
    plot.add("path", { class: "dots", d: a.map((x, i) => `M${plot.x(x) - 1.6} ${plot.y(f[i])}a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0 -3.2 0`).join("") });
    if (slope !== null && intercept !== null) {
      const ends = [0, right].map((x) => [plot.x(x), plot.y(Math.max(low, Math.min(high, intercept + slope * x)))]);
      plot.add("line", { class: "fit", x1: ends[0][0], y1: ends[0][1], x2: ends[1][0], y2: ends[1][1] });
    }
    plot.ticks([0, right], [[low, number(low, 2, true)], ...(low < 0 && high > 0 ? [[0, "0"]] : []), [high, number(high, 2, true)]]);
    const note = make("p", { class: "small" }, `Line: least squares over all tokens, slope ${number(slope, 3, true)}. Grey: 95 % of the slopes under the null.`);
    return make("div", {}, make("h4", {}, "Force against activation"), plot.svg, note);
  }

  logits() {
    const { page } = this;
    const most = Math.max(1e-12, ...[...page.raised_logits, ...page.lowered_logits].map(Math.abs));
    const side = (title, tokens, values, less) => make("div", {}, make("h4", {}, title),
      measures(tokens.map((token, i) => [token, values[i]]), most, less));
    return make("div", { class: "pair" },
      side("Logits it raises most, through the lens", page.raised_tokens, page.raised_logits, false),
      side("Logits it lowers most, through the lens", page.lowered_tokens, page.lowered_logits, true));
  }

  neighbours() {
    const { page, feature, browser } = this;
    if (!page.neighbour_features.length) return [];
    const items = page.neighbour_features.map((id, i) => {
      const near = browser.byKey.get(`${feature.site}/${id}`);
      const token = near?.token.trim() ? ` “${near.token.trim()}”` : "";
      return make("li", {}, near ? browser.link(near) : String(id), `${token} ${number(page.neighbour_cosines[i], 2, true)}`);
    });
    return [make("h4", {}, "Neighbours, by cosine of decoder rows"), make("ul", { class: "neighbours" }, ...items)];
  }

  classes() {
    const { page } = this;
    const pairs = page.classes.map((name, i) => [name, page.class_effects[i]]).filter(([, value]) => value !== null);
    if (!pairs.length) return [];
    const unmet = page.classes.length - pairs.length;
    const note = `Mean change of the loss, in nats, on tokens of each class when the feature is ablated${unmet ? `; ${unmet} undefined (no such token)` : ""}.`;
    return [make("h4", {}, "Effect of ablation by token class"), make("p", { class: "small" }, note),
      measures(pairs, Math.max(1e-12, ...pairs.map(([, value]) => Math.abs(value))), false)];
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
    across.forEach((value, i) => this.svg.append(
      shape("text", { x: this.x(value), y: 191, "text-anchor": i ? "end" : "start" }, number(value, 2))));
    for (const [value, text] of up) {
      this.svg.append(shape("text", { x: 35, y: this.y(value) + 4, "text-anchor": "end" }, text));
    }
  }
}


// Features beside an energy: the list by alignment, and a page of contexts with forces and effects.

const GROUPS = [
  ["top", "Where it is most active"],
  ["upper quarter", "In the upper quarter of its activations"],
  ["median", "Around its median activation"],
  ["off, large force", "Off, though the force on it is large"],
];

class AlignmentPage extends Page {
  parts() {
    const { page } = this;
    const head = [this.back(), ...this.title(this.verdict(), this.facts())];
    if (!page) {
      const why = "No contexts were kept for this feature: only the surest, the intervened on and a random few have them.";
      return [...head, make("p", { class: "small" }, why)];
    }
    const { tokens, documents } = this.browser.view;
    const contexts = page.contexts.map((context) => ({ ...context,
      tokens: context.tokens.map((token) => tokens[token]),
      place: `${documents[context.document]}, token ${number(context.position)}` }));
    const legend = "Background: activation. Underline: force on the energy, blue where more of the feature lowers it, vermilion where it raises it. Point at a token for both numbers.";
    const pairs = (way) => page[`${way}_tokens`].map((token, i) => [token, page[`${way}_logits`][i]]);
    return [...head, ...this.contexts(contexts, GROUPS, legend),
      make("div", { class: "pair" }, this.histogram(page.activation_counts, page.activation_edges), this.scatter()),
      ...this.logits(pairs("raised"), pairs("lowered")),
      ...this.neighbours(page.neighbour_features, page.neighbour_cosines), ...this.classes()];
  }

  told(activation, force) {
    return `activation ${number(activation)}\nforce ${number(force, 3, true)} nats per unit`;
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
    plot.ticks([[0, "0"], [right, number(right, 2)]], [[low, number(low, 2, true)], ...(low < 0 && high > 0 ? [[0, "0"]] : []), [high, number(high, 2, true)]]);
    const note = make("p", { class: "small" }, `Line: least squares over all tokens, slope ${number(slope, 3, true)}. Grey: 95 % of the slopes under the null.`);
    return make("div", {}, make("h4", {}, "Force against activation"), plot.svg, note);
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

const VIEWS = {};

VIEWS.alignment = class {
  static async read() {
    const [table, pages] = await Promise.all([data("data-volcano"), data("pages")]);
    return new VIEWS.alignment(table, pages);
  }

  constructor({ columns, cells }, { tokens, documents, pages }) {
    Object.assign(this, { tokens, documents });
    const names = columns.map((column) => column.name);
    this.features = cells[0].map((_, row) => {
      const feature = Object.fromEntries(names.map((name, i) => [name, cells[i][row]]));
      feature.row = row;
      feature.key = `${feature.site}/${feature.feature}`;
      feature.page = pages[feature.key] ?? null;
      feature.token = feature.page ? this.peak(feature.page) : "";
      feature.ablation = feature.page ? feature.page.ablation_measured : null;
      feature.spark = feature.page?.activation_counts ?? [];
      feature.mark = ["attractor", "repulsor"].includes(feature.verdict) ? feature.verdict : "";
      return feature;
    });
    this.columns = [
      { name: "row", label: "feature" },
      { name: "token", label: "peak token", wide: true },
      { name: "efas", label: "EFAS", show: (value) => fixed(value, 3, true), number: true },
      { name: "q", label: "q", show: chance, number: true },
      { name: "density", label: "density", show: percent, number: true },
      { name: "spark", label: "activation" },
      { name: "ablation", label: "ΔE", show: (value) => (value === null ? "" : number(value, 2, true)), number: true, wide: true },
    ];
    this.sort = { name: "row", down: false, told: "surest first" };
    this.choices = [
      { id: "site", label: "Site", all: "all sites", of: (feature) => feature.site },
      { id: "verdict", label: "Verdict", all: "all verdicts", of: (feature) => feature.verdict },
    ];
  }

  peak(page) {
    const counts = new Map();
    for (const context of page.contexts) {
      if (context.group !== "top") continue;
      const token = this.tokens[context.tokens[context.peak]] ?? "";
      counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? "";
  }

  // What a search looks through: every name of the feature, and every token on its page.
  haystack(feature) {
    const { page } = feature;
    const words = page ? [...page.raised_tokens, ...page.lowered_tokens] : [];
    if (page) for (const { tokens } of page.contexts) words.push(tokens.map((t) => this.tokens[t]).join(""));
    return [feature.name, `${feature.layer}/${feature.feature}`, feature.key, feature.verdict, ...words].join("\n");
  }

  parts(browser, feature) {
    return new AlignmentPage(browser, feature, feature.page).parts();
  }
};

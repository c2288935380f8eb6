// The features of a whole dictionary: an index in memory, pages and texts unpacked when asked for.

const SHOWN = [
  ["top", "Where it is most active"],
  ["upper quarter", "A quarter of the way down the windows it is active in"],
  ["median", "Halfway down"],
  ["lower quarter", "Three quarters of the way down"],
];
const DENSITIES = [
  ["never active", 0, 0], ["below .01 %", 0, 1e-4], [".01 to .1 %", 1e-4, 1e-3],
  [".1 to 1 %", 1e-3, 1e-2], ["1 to 10 %", 1e-2, 0.1], ["above 10 %", 0.1, 2],
];
const HALF_OCTAVES = 2, MIDDLE_BIN = 32;

// A token of nothing but spaces by a sign for each, where it stands alone.
const seen = (token) => (token.trim() ? token : token.replaceAll(" ", "␣"));

class DictionaryPage extends Page {
  parts() {
    const { feature, page, browser: { view } } = this;
    const head = [this.back(), ...this.title(this.said(), this.facts())];
    if (!feature.n_active) {
      return [...head, ...this.written(), ...this.near()];
    }
    const legend = `Background: activation, in ${view.steps} steps of the feature's largest, for the picture; the table has it in full.`;
    const edges = Array.from({ length: feature.spark.length + 1 }, (_, i) => page.histogram_first + i);
    const told = (bin) => number(2 ** ((bin - MIDDLE_BIN) / HALF_OCTAVES), 2);
    return [...head, ...this.contexts(page.contexts, SHOWN, legend), ...this.partners(),
      ...this.written(), make("div", { class: "pair" }, this.histogram(feature.spark, edges, told)), ...this.near()];
  }

  said() {
    const { feature, page } = this;
    if (!feature.n_active) return "Never active on this text.";
    if (page.auroc_null === null || page.q === null) return "Active too seldom to be judged: a label takes 30 tokens in 5 documents.";
    if (!feature.label) return "It tells no class of tokens or kind of text apart beyond chance.";
    return `Tells “${feature.label}” apart: ${percent(page.class_share)} of its active tokens are, ${percent(page.class_density)} of all.`;
  }

  facts() {
    const { feature, page, browser: { view } } = this;
    const facts = [
      ["density", `${percent(feature.density)} of tokens`],
      ["evidence", `${number(feature.n_active)} tokens, ${number(page.n_documents)} documents`],
    ];
    if (feature.n_active) {
      facts.push(["activation", `mean ${number(page.mean_activation)}, largest ${number(feature.max)}`]);
    }
    if (feature.auroc !== null && page.q !== null) {
      facts.push([feature.label ? "AUROC" : "AUROC of the best class", `${fixed(feature.auroc, 3)}, turned text ${fixed(page.auroc_null, 3)}`],
        ["q", chance(page.q)]);
    }
    const norms = view.targets.map((site, at) => `${site}: ${number(page.site_norms[at], 2)}`);
    return [...facts, ["norm of its decoder row", number(page.decoder_norm)],
      ...(norms.length ? [["by site", norms.join(", ")]] : [])];
  }

  told(activation) {
    const { feature, browser: { view } } = this;
    return `activation ${activation ? `about ${number((activation / view.steps) * feature.max, 2)}` : "0"}`;
  }

  written() {
    const { page, browser: { view } } = this;
    if (!page.raised_tokens.length) return [];
    const pairs = (way) => page[`${way}_tokens`].map((token, i) => [view.words[token], page[`${way}_logits`][i]]);
    const note = `Per unit of activation, by the direct path at the mean state. Null: 19 in 20 random directions of this length raise no logit by more than ${number(view.logit_null * page.stream_norm, 2)}.`;
    return this.logits(pairs("raised"), pairs("lowered"), note);
  }

  near() {
    const { page, browser: { view } } = this;
    const note = `Null: 19 in 20 random directions have no neighbour nearer than ${fixed(view.cosine_null, 2)} among as many.`;
    return this.neighbours(page.neighbour_features, page.neighbour_cosines, note);
  }

  partners() {
    const { page, feature, browser } = this;
    if (!page.partners.length) return [];
    const rows = page.partners.map(([other, together, expected, phi, turned, beyond]) => {
      const near = browser.byKey.get(`${feature.site}/${other}`);
      return make("tr", { class: beyond ? null : "within" },
        make("td", {}, near ? browser.link(near) : String(other)), make("td", { class: "token" }, near?.token ?? ""),
        make("td", { class: "n" }, fixed(phi, 2)), make("td", { class: "n" }, number(together)),
        make("td", { class: "n" }, number(expected, 2)), make("td", { class: "n" }, number(turned)));
    });
    const heads = [["feature"], ["peak token"], ["φ", "n"], ["together", "n"], ["if independent", "n"], ["turned", "n"]];
    const note = `Of ${number(browser.view.sample_tokens)} tokens. Turned: with the other's tokens turned within each document. Grey: φ no larger than the largest that this feature reaches with any feature so turned.`;
    return [make("h4", {}, "Active on the same tokens"), make("p", { class: "small" }, note),
      make("div", { class: "scroll" }, make("table", { class: "partners" },
        make("thead", {}, make("tr", {}, ...heads.map(([name, kind]) => make("th", { scope: "col", class: kind ?? null }, name)))),
        make("tbody", {}, ...rows)))];
  }
}

VIEWS.dictionary = class {
  static async read() {
    return new VIEWS.dictionary(await data("index"));
  }

  constructor({ columns, labels, ...rest }) {
    Object.assign(this, rest);
    this.features = columns.density.map((density, row) => ({
      row, feature: row, site: rest.site, key: `${rest.site}/${row}`, name: `${rest.prefix}${row}`, density,
      token: columns.n_active[row] ? seen(rest.words[columns.peak[row]]) : "",
      bare: columns.n_active[row] ? rest.words[columns.peak[row]].trim().toLowerCase() : "",
      label: columns.label[row] < 0 ? "" : labels[columns.label[row]],
      auroc: columns.auroc[row], n_active: columns.n_active[row], max: columns.max_activation[row],
      spark: columns.spark[row], mark: columns.label[row] < 0 ? "" : "labelled",
      clear: columns.label[row] < 0 ? null : columns.auroc[row],
    }));
    this.columns = [
      { name: "row", label: "feature" },
      { name: "token", label: "token", text: true },
      { name: "label", label: "label", text: true },
      { name: "clear", label: "AUROC", show: (value) => (value === null ? "" : fixed(value, 2)), number: true, wide: true },
      { name: "density", label: "density", show: percent, number: true },
      { name: "spark", label: "activation", wide: true },
    ];
    this.sort = { name: "clear", down: true, told: "clearest first" };
    this.choices = [
      { id: "label", label: "Label", all: "any label", of: (feature) => feature.label || "no label" },
      { id: "density", label: "Density", all: "any density", values: DENSITIES.map(([name]) => name), of: ({ density }) =>
        DENSITIES.find(([, low, high]) => (density === 0 ? high === 0 : density >= low && density < high))[0] },
    ];
  }

  async prepare() {
    this.searched = await data("searched");
  }

  // What a search looks through: names, label, the tokens around its peaks and those it writes.
  haystack(feature) {
    const said = (tokens) => tokens.map((token) => (token < 0 ? "\n" : this.words[token])).join("");
    const around = said(this.searched[feature.row]);
    return [feature.name, feature.key, feature.label, feature.token, around].join("\n");
  }

  // How well a feature fits a search: its number, then what it peaks on or is called, then the rest.
  fit(feature, words) {
    if (words.includes(String(feature.row)) || words.includes(feature.name.toLowerCase())) return 0;
    const { bare: token, label } = feature;
    if (words.includes(token)) return 1;
    return words.some((word) => token.includes(word) || label.includes(word)) ? 2 : 3;
  }

  async parts(browser, feature) {
    const block = await data(`features-${Math.floor(feature.row / this.block)}`);
    const page = Object.fromEntries(Object.entries(block).map(([name, column]) => [name, column[feature.row % this.block]]));
    page.contexts = await Promise.all(page.contexts.map((context) => this.context(context)));
    return new DictionaryPage(browser, feature, page).parts();
  }

  async context([group, place, first, peak, activation]) {
    const block = await data(`windows-${Math.floor(place / this.windows)}`);
    const [document, start, tokens] = block[place % this.windows];
    return {
      group, peak, activation, place: `${this.documents[document]}, token ${number(start + first + peak)}`,
      tokens: tokens.slice(first, first + activation.length).map((token) => this.words[token]),
    };
  }
};

// The feature browser: a list to search and sort, and the page of the chosen feature.

const CHUNK = 80; // rows of the list drawn at a time
const PLACE = /^#feature=(.+\/\d+)$/;
const COLUMNS = [
  { name: "row", label: "feature" },
  { name: "token", label: "peak token", wide: true },
  { name: "efas", label: "EFAS", show: (value) => fixed(value, 3, true), number: true },
  { name: "q", label: "q", show: chance, number: true },
  { name: "density", label: "density", show: percent, number: true },
  { name: "spark", label: "activation" },
  { name: "ablation", label: "ΔE", show: (value) => (value === null ? "" : number(value, 2, true)), number: true, wide: true },
];

class Browser {
  constructor(table, pages) {
    this.pages = pages.pages;
    this.tokens = pages.tokens;
    this.documents = pages.documents;
    this.features = this.gather(table);
    this.byKey = new Map(this.features.map((feature) => [feature.key, feature]));
    this.sort = { name: "row", down: false };
    this.chosen = null;
    this.head();
    this.options("site", this.features.map((feature) => feature.site));
    this.options("verdict", this.features.map((feature) => feature.verdict));
    $("search").addEventListener("input", () => this.filter());
    for (const id of ["site", "verdict"]) $(id).addEventListener("change", () => this.filter());
    $("list").addEventListener("scroll", () => this.fill());
    addEventListener("hashchange", () => this.follow(true));
    addEventListener("keydown", (event) => this.key(event));
    this.filter();
    this.follow(true) || this.choose(this.shown[0]);
  }

  gather({ columns, cells }) {
    const names = columns.map((column) => column.name);
    return cells[0].map((_, row) => {
      const feature = Object.fromEntries(names.map((name, i) => [name, cells[i][row]]));
      feature.row = row;
      feature.key = `${feature.site}/${feature.feature}`;
      feature.page = this.pages[feature.key] ?? null;
      feature.token = feature.page ? this.peak(feature.page) : "";
      feature.ablation = feature.page ? feature.page.ablation_measured : null;
      return feature;
    });
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
    if (feature.text === undefined) {
      const { page } = feature;
      const words = page ? [...page.raised_tokens, ...page.lowered_tokens] : [];
      if (page) for (const { tokens } of page.contexts) words.push(tokens.map((t) => this.tokens[t]).join(""));
      feature.text = [feature.name, `${feature.layer}/${feature.feature}`, feature.key, feature.verdict, ...words]
        .join("\n").toLowerCase();
    }
    return feature.text;
  }

  head() {
    const cells = COLUMNS.map((column) => {
      const act = () => this.order(column.name);
      const button = make("button", { type: "button", on: { click: act } }, column.label);
      const sortable = column.name !== "spark";
      const kind = [column.number ? "n" : "", column.name === "token" ? "token" : "", column.wide ? "wide" : ""];
      return make("th", { scope: "col", "data-name": column.name, class: kind.join(" ").trim() || null },
        sortable ? button : column.label);
    });
    $("sorts").replaceChildren(...cells);
  }

  options(id, values) {
    for (const value of [...new Set(values)].sort()) $(id).append(make("option", { value }, value));
  }

  order(name) {
    const number = COLUMNS.find((column) => column.name === name).number ?? false;
    this.sort = this.sort.name === name ? { name, down: !this.sort.down } : { name, down: number };
    this.filter();
  }

  filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [site, verdict] = [$("site").value, $("verdict").value];
    this.shown = this.features.filter((feature) =>
      (!site || feature.site === site) && (!verdict || feature.verdict === verdict)
      && words.every((word) => this.haystack(feature).includes(word)));
    const { name, down } = this.sort;
    const rank = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    const blank = (value) => value === null || value === "";
    this.shown.sort((one, other) => {
      const [a, b] = [one[name], other[name]];
      if (blank(a) || blank(b)) return blank(a) - blank(b); // undefined stays last either way
      return (down ? -1 : 1) * rank(a, b) || one.row - other.row;
    });
    for (const cell of $("sorts").children) {
      const sorted = cell.dataset.name === name;
      if (sorted) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    const count = this.shown.length.toLocaleString("en-US");
    $("found").textContent = `${count} of ${this.features.length.toLocaleString("en-US")} features`
      + (name === "row" ? ", surest first" : "");
    $("rows").replaceChildren();
    $("list").scrollTop = 0;
    this.fill();
  }

  fill(upTo = 0) {
    const [list, rows] = [$("list"), $("rows")];
    while (rows.children.length < this.shown.length
      && (rows.children.length <= upTo || list.scrollTop + 2 * list.clientHeight > list.scrollHeight)) {
      const from = rows.children.length;
      rows.append(...this.shown.slice(from, from + CHUNK).map((feature) => this.row(feature)));
    }
    this.mark();
  }

  row(feature) {
    const cells = COLUMNS.map((column) => {
      if (column.name === "row") return make("td", {}, this.link(feature));
      if (column.name === "spark") return make("td", {}, feature.page ? spark(feature.page.activation_counts) : "");
      if (column.name === "token") return make("td", { class: "token wide", title: feature.token }, feature.token);
      return make("td", { class: column.wide ? "n wide" : "n" }, column.show(feature[column.name]));
    });
    const row = make("tr", { on: { click: () => this.go(feature, false) } }, ...cells);
    row.feature = feature;
    return row;
  }

  link(feature) {
    const kind = ["attractor", "repulsor"].includes(feature.verdict) ? ` ${feature.verdict}` : "";
    return make("a", { href: `#feature=${feature.key}`, title: feature.key },
      make("i", { class: `mark${kind}`, "aria-hidden": "true" }), feature.name);
  }

  mark() {
    for (const row of $("rows").children) {
      const chosen = row.feature === this.chosen;
      row.classList.toggle("chosen", chosen);
      const link = row.querySelector("a");
      if (chosen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      // The Tab key meets one link of the list, not thousands; arrows and j, k walk on from there.
      link.tabIndex = chosen ? 0 : -1;
      if (chosen && $("rows").contains(document.activeElement)) link.focus({ preventScroll: true });
    }
    if ($("rows").children.length && !$("rows").querySelector("[tabindex='0']")) {
      $("rows").querySelector("a").tabIndex = 0;
    }
  }

  // Open at once, so that the next key counts from here; the address follows.
  go(feature, quiet) {
    const place = `#feature=${feature.key}`;
    this.open(feature);
    if (location.hash === place) return;
    if (quiet) location.replace(place);
    else location.hash = place;
  }

  // Read the address; true if it names a feature of this run.
  follow(open) {
    let place = location.hash;
    try { place = decodeURIComponent(place); } catch { return false; }
    const feature = this.byKey.get(PLACE.exec(place)?.[1]);
    if (!feature) return false;
    if (open && feature !== this.chosen) this.open(feature);
    return true;
  }

  open(feature) {
    $("browser").dataset.view = "page";
    this.choose(feature);
    const { top, bottom } = $("browser").getBoundingClientRect();
    if (top > innerHeight * 0.6 || bottom < innerHeight * 0.3 || innerWidth <= 860) {
      $("features").scrollIntoView({ behavior: "instant" });
    }
  }

  choose(feature) {
    if (!feature) return;
    this.chosen = feature;
    const at = this.shown.indexOf(feature);
    if (at >= 0) {
      this.fill(at);
      const [list, row] = [$("list"), $("rows").children[at]];
      const above = row.offsetTop - list.scrollTop < 40;
      const below = row.offsetTop + row.offsetHeight > list.scrollTop + list.clientHeight;
      if (above || below) list.scrollTop = row.offsetTop - list.clientHeight / 3;
    }
    this.mark();
    $("page").replaceChildren(...new Page(this, feature).parts());
  }

  // Whether an arrow key was pressed within the list.
  steps(event) {
    const arrow = event.key === "ArrowDown" || event.key === "ArrowUp";
    if (!arrow || !$("rows").contains(event.target)) return false;
    event.preventDefault();
    return true;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName ?? "");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      if (event.key === "Enter" && event.target.id === "search" && this.shown[0]) {
        event.target.blur();
        this.go(this.shown[0], true);
      }
    } else if (event.key === "/") {
      event.preventDefault();
      $("browser").dataset.view = "list";
      $("search").focus();
      $("search").select();
    } else if (event.key === "j" || event.key === "k" || this.steps(event)) {
      const on = event.key === "j" || event.key === "ArrowDown";
      const next = this.shown[this.shown.indexOf(this.chosen) + (on ? 1 : -1)];
      if (next) this.go(next, true);
    }
  }
}

// The browser's data is unpacked when the section comes near the window, or is asked for by its
// address or a key.
async function start() {
  if ($("browser").hidden) {
    $("browser").hidden = false;
    document.querySelector(".still").hidden = true;
    const [table, pages] = await Promise.all([data("data-volcano"), data("pages")]);
    new Browser(table, pages);
    $("browser").dataset.ready = "true";
  }
}

if ($("browser")) {
  const near = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) { near.disconnect(); start(); }
  }, { rootMargin: "800px" });
  near.observe($("features"));
  const asked = () => PLACE.test(location.hash) && start();
  addEventListener("hashchange", asked);
  addEventListener("keydown", (event) => { if (["j", "k", "/"].includes(event.key)) start(); });
  asked();
}

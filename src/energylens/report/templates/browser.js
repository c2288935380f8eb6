// The feature browser: a list to search and sort, of which only what is seen is in the document, and
// the page of the chosen feature. A view says what the features are and what their pages show.

const SPARE = 12; // rows drawn beyond either edge of the list
const AT_ONCE = 400; // features whose words are read while nobody waits
const PLACE = /^#(?:feature|training)=(.+\/\d+)$/;

class Browser {
  constructor(view) {
    this.view = view;
    this.features = view.features;
    this.byKey = new Map(this.features.map((feature) => [feature.key, feature]));
    this.sort = { ...view.sort };
    this.chosen = null;
    this.height = 32;
    this.head();
    view.choices.forEach((choice) => this.choice(choice));
    this.order();
    $("search").addEventListener("input", () => this.filter());
    $("list").addEventListener("scroll", () => this.fill());
    addEventListener("resize", () => this.fill());
    addEventListener("hashchange", () => this.follow(true));
    addEventListener("keydown", (event) => this.key(event));
    this.filter();
    this.follow(true) || this.choose(this.shown[0]);
    this.prepare();
  }

  // What is searched is unpacked after the first list is drawn, and read when there is time.
  async prepare() {
    await this.view.prepare?.();
    this.searchable = true;
    if ($("search").value) this.filter();
    $("browser").dataset.searchable = "true";
    for (let at = 0; at < this.features.length; at += AT_ONCE) {
      await new Promise((done) => (window.requestIdleCallback ?? setTimeout)(done));
      this.features.slice(at, at + AT_ONCE).forEach((feature) => this.haystack(feature));
    }
  }

  head() {
    const cells = this.view.columns.map((column) => {
      const button = make("button", { type: "button", on: { click: () => this.by(column.name) } }, column.label);
      return make("th", { scope: "col", "data-name": column.name, class: this.kind(column) },
        column.name === "spark" ? column.label : button);
    });
    $("sorts").replaceChildren(...cells);
  }

  kind(column) {
    return ["row", "token", "label"].filter((name) => name === column.name)
      .concat(column.number ? "n" : [], column.wide ? "wide" : [], column.long ? "long" : [], column.name === "spark" ? "figure" : []).join(" ") || null;
  }

  choice({ id, label, all, of, values }) {
    const there = values ?? [...new Set(this.features.map(of))].sort();
    const select = make("select", { id, on: { change: () => this.filter() } }, make("option", { value: "" }, all),
      ...there.map((value) => make("option", { value }, value)));
    $("fields").append(make("label", {}, make("span", { class: "unseen" }, label), select));
  }

  by(name) {
    const number = this.view.columns.find((column) => column.name === name).number ?? false;
    this.sort = this.sort.name === name ? { name, down: !this.sort.down } : { name, down: number };
    if (name === this.view.sort.name && this.sort.down === this.view.sort.down) this.sort = { ...this.view.sort };
    this.order();
    this.filter();
  }

  // All features in the order asked for, once; a search keeps that order.
  order() {
    const { name, down } = this.sort;
    const rank = (a, b) => (typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b);
    const blank = (value) => value === null || value === "";
    this.ordered = [...this.features].sort((one, other) => {
      const [a, b] = [one[name], other[name]];
      if (blank(a) || blank(b)) return blank(a) - blank(b) || one.row - other.row; // undefined stays last either way
      return (down ? -1 : 1) * rank(a, b) || one.row - other.row;
    });
    for (const cell of $("sorts").children) {
      if (cell.dataset.name === name) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  haystack(feature) {
    feature.text ??= this.view.haystack(feature).toLowerCase();
    return feature.text;
  }

  filter() {
    const query = $("search").value.toLowerCase().trimStart();
    const words = query.split(/\s+/).filter(Boolean);
    if (words.length && !this.searchable) return; // `prepare` calls again
    const asked = this.view.choices.map(({ id, of }) => [of, $(id).value]).filter(([, value]) => value);
    const other = asked.map(([, value]) => value).join("\n");
    // Who types on finds among what was found.
    const { narrow } = this;
    const among = narrow && narrow.ordered === this.ordered && narrow.other === other && query.startsWith(narrow.query)
      ? narrow.found : this.ordered;
    this.shown = among.filter((feature) => asked.every(([of, value]) => of(feature) === value)
      && words.every((word) => this.haystack(feature).includes(word)));
    this.narrow = { ordered: this.ordered, other, query, found: this.shown };
    const { told } = this.sort;
    if (words.length && told && this.view.fit) {
      const fits = [[], [], [], []];
      for (const feature of this.shown) fits[this.view.fit(feature, words)].push(feature);
      this.shown = fits.flat();
    }
    const count = this.shown.length.toLocaleString("en-US");
    $("found").textContent = `${count} of ${this.features.length.toLocaleString("en-US")} ${this.view.noun ?? "feature"}s`
      + (told ? `, ${words.length && this.view.fit ? "best match" : told.replace(" first", "")} first` : "");
    $("list").scrollTop = 0;
    this.drawn = null;
    this.fill();
  }

  // Draw the rows that are seen and some beyond; what lies above and below is empty space.
  fill(again = false) {
    const list = $("list");
    const first = Math.max(0, Math.floor(list.scrollTop / this.height) - SPARE);
    const last = Math.min(this.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / this.height) + SPARE);
    if (!again && this.drawn && this.drawn[0] === first && this.drawn[1] === last) return;
    const held = $("rows").contains(document.activeElement) ? document.activeElement.closest("tr").feature : null;
    this.draw(first, last);
    // The empty space before anything is measured: a list that is short for a moment jumps up from its end.
    this.space("above", first);
    this.space("below", this.shown.length - last);
    const measured = $("rows").firstElementChild?.getBoundingClientRect().height;
    if (measured && Math.abs(measured - this.height) > 0.5) {
      this.height = measured;
      this.fill(true);
      return;
    }
    this.mark();
    if (held && !$("rows").contains(document.activeElement)) {
      ([...$("rows").children].find((row) => row.feature === held)?.querySelector("a") ?? list).focus({ preventScroll: true });
    }
  }

  // A row that stays is left alone: a list that scrolls between press and release loses no click.
  draw(first, last) {
    const rows = $("rows");
    const made = (from, to) => this.shown.slice(from, to).map((feature, i) => this.row(feature, from + i));
    const [from, to] = this.drawn ?? [0, 0];
    this.drawn = [first, last];
    if (Math.max(first, from) >= Math.min(last, to)) {
      rows.replaceChildren(...made(first, last));
      return;
    }
    for (const row of [...rows.children]) if (row.dataset.at < first || row.dataset.at >= last) row.remove();
    rows.prepend(...made(first, Math.max(first, from)));
    rows.append(...made(Math.min(last, to), last));
  }

  space(id, rows) {
    const cell = make("td");
    cell.style.height = `${rows * this.height}px`;
    $(id).replaceChildren(...(rows ? [make("tr", {}, cell)] : []));
  }

  row(feature, at) {
    const cells = this.view.columns.map((column) => {
      const kind = this.kind(column), value = feature[column.name];
      if (column.name === "row") return make("td", { class: kind }, this.link(feature));
      if (column.name === "spark") return make("td", { class: kind }, value.length ? spark(value) : "");
      if (column.show) return make("td", { class: kind }, column.show(value));
      return make("td", { class: kind, title: value }, value);
    });
    const row = make("tr", { "data-at": at, on: { click: () => this.go(feature, false) } }, ...cells);
    row.feature = feature;
    return row;
  }

  place(feature) {
    return `#${this.view.noun ?? "feature"}=${feature.key}`;
  }

  link(feature) {
    return make("a", { href: this.place(feature), title: feature.key },
      make("i", { class: `mark ${feature.mark}`.trim(), "aria-hidden": "true" }), feature.shown ?? feature.name);
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

  // Back from a page to the list, where both do not fit.
  list() {
    $("browser").dataset.view = "list";
    this.drawn = null;
    this.fill();
    this.reach();
  }

  // Open at once, so that the next key counts from here; the address follows.
  go(feature, quiet) {
    const place = this.place(feature);
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

  // Scroll the chosen row into the list.
  reach() {
    const at = this.shown.indexOf(this.chosen);
    const list = $("list");
    if (at < 0 || !list.clientHeight) return;
    const head = $("sorts").getBoundingClientRect().height;
    const top = at * this.height;
    if (top < list.scrollTop || top + this.height + head > list.scrollTop + list.clientHeight) {
      list.scrollTop = top - list.clientHeight / 3;
      this.fill();
    }
  }

  async choose(feature) {
    if (!feature) return;
    this.chosen = feature;
    this.reach();
    this.mark();
    const parts = await this.view.parts(this, feature);
    if (this.chosen === feature) $("page").replaceChildren(...parts);
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
    new Browser(await VIEWS[$("browser").dataset.shows].read());
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

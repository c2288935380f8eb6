"use strict";
// Figures: pointing at a point names it, its table can be copied. All text goes in as text nodes.

const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return dress(document.createElementNS(SVG, tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Data lies in the page as inert text: plain JSON, or gzip in base64, read when first asked for.
const kept = new Map();

function data(id) {
  if (!kept.has(id)) kept.set(id, read($(id)));
  return kept.get(id);
}

async function read(holder) {
  if (!holder) return null;
  if (holder.type === "application/json") return JSON.parse(holder.textContent);
  const bytes = Uint8Array.from(atob(holder.textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Numbers as the prose has them: .218, −31.1, 3,790; undefined is a dash.
function number(value, digits = 3, signed = false) {
  if (typeof value === "string") return value;
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : signed ? "+" : "";
  if (size < 1e-4) {
    const [mantissa, power] = size.toExponential(digits - 1).split("e");
    const raised = power.replace("+", "").replace(/[-\d]/g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
    return `${sign}${Number(mantissa)} × 10${raised}`;
  }
  if (Number.isInteger(value)) return sign + size.toLocaleString("en-US");
  const text = Number(size.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 8 });
  return sign + text.replace(/^0\./, ".");
}

function fixed(value, places, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(places);
  const sign = Number(text) === 0 ? "" : value < 0 ? "−" : signed ? "+" : "";
  return sign + text.replace(/^0\./, ".");
}

// A value and its interval, each to the digits that the interval's width supports.
function interval(value, low, high, signed = true) {
  if (value === null || low === null || high === null || !(high > low)) return number(value, 3, signed);
  const first = -Math.floor(Math.log10(high - low));
  const ends = Math.max(0, first + ((high - low) * 10 ** first < 3 ? 1 : 0));
  return `${fixed(value, Math.max(0, first + 1), signed)} [${fixed(low, ends, signed)}, ${fixed(high, ends, signed)}]`;
}

const chance = (p) => (p === null ? "–" : p < 0.001 ? "< .001" : p === 1 ? "1" : fixed(p, p < 0.1 ? 3 : 2));
const relation = (p) => (p === null ? "undefined" : p < 0.001 ? "< .001" : `= ${chance(p)}`);
const percent = (share) => (share === null ? "–" : `${number(100 * share, 2)} %`);

// Comma-separated values; a text that a spreadsheet would run as a formula is quoted as text.
function csv({ columns, cells }) {
  const quote = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const cell = (value) => {
    if (value === null) return "";
    if (typeof value !== "string") return String(value);
    return quote(/^[=+@\t\r-]/.test(value) ? `'${value}` : value);
  };
  const rows = cells[0].map((_, row) => cells.map((column) => cell(column[row])).join(","));
  return [columns.map((column) => quote(column.name)).join(","), ...rows].join("\n") + "\n";
}

async function copy(button) {
  const text = csv(await data(`data-${button.dataset.copy}`));
  const label = button.textContent;
  button.textContent = (await put(text)) ? "Copied" : "Could not copy: take the Parquet file";
  setTimeout(() => { button.textContent = label; }, 1600);
}

async function put(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

function tell(text, x, y) {
  const tip = $("tip");
  tip.textContent = text;
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, innerHeight - height - 4))}px`;
}

const hush = () => { $("tip").hidden = true; };

const REACH = 16; // pixels of the screen within which the pointer means a point

class Chart {
  constructor(svg, source, marks) {
    Object.assign(this, { svg, source, marks, at: -1 });
    this.names = source.columns.map((column) => column.name);
    this.ring = shape("circle", { class: "ring", r: 7, visibility: "hidden" });
    svg.append(this.ring);
    svg.classList.add("live");
    svg.addEventListener("pointermove", (event) => this.point(event));
    svg.addEventListener("pointerleave", () => this.leave());
    svg.addEventListener("blur", () => this.leave());
    svg.addEventListener("click", () => this.open());
    svg.addEventListener("keydown", (event) => this.key(event));
  }

  cell(name, row) {
    const column = this.names.indexOf(name);
    return column < 0 ? null : this.source.cells[column][row];
  }

  point(event) {
    const inverse = this.svg.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
    const [across, down] = this.marks;
    let near = -1;
    let best = (REACH * inverse.a) ** 2;
    for (let i = 0; i < across.length; i += 1) {
      const distance = (across[i] - x) ** 2 + (down[i] - y) ** 2;
      if (distance < best) [near, best] = [i, distance];
    }
    if (near < 0) this.leave();
    else this.show(near, event.clientX, event.clientY);
  }

  show(mark, clientX, clientY) {
    this.at = mark;
    const [across, down, rows] = this.marks;
    this.ring.setAttribute("cx", across[mark]);
    this.ring.setAttribute("cy", down[mark]);
    this.ring.setAttribute("visibility", "visible");
    this.svg.classList.toggle("opens", this.key_of(rows[mark]) !== null);
    tell(this.lines(rows[mark]), clientX, clientY);
  }

  lines(row) {
    const told = this.source.tells.filter((name) => this.names.includes(name));
    return told.map((name) => {
      const { label, signed } = this.source.columns[this.names.indexOf(name)];
      const value = this.cell(name, row);
      return typeof value === "string" && told[0] === name ? value : `${label} ${number(value, 3, signed)}`;
    }).join("\n");
  }

  leave() {
    this.ring.setAttribute("visibility", "hidden");
    this.at = -1;
    hush();
  }

  key_of(row) {
    const [site, feature] = [this.cell("site", row), this.cell("feature", row)];
    return site === null || feature === null || !$("browser") ? null : `${site}/${feature}`;
  }

  open() {
    if (this.at < 0) return;
    const key = this.key_of(this.marks[2][this.at]);
    if (key) location.hash = `feature=${key}`;
  }

  key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Enter") this.open();
    else if (event.key === "Escape") this.leave();
    else if (step) {
      event.preventDefault();
      const count = this.marks[0].length;
      const mark = (Math.max(this.at, step > 0 ? -1 : 0) + step + count) % count;
      const spot = new DOMPoint(this.marks[0][mark], this.marks[1][mark]).matrixTransform(this.svg.getScreenCTM());
      this.show(mark, spot.x, spot.y);
    }
  }
}

async function enliven(figure) {
  const source = await data(`data-${figure.id}`);
  if (!source) return;
  figure.querySelectorAll(".drawing").forEach((svg, panel) => {
    if (source.marks[panel][0].length) new Chart(svg, source, source.marks[panel]);
  });
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
// A stop of the Tab key from the start: one who is quick must not pass a figure not yet read.
document.querySelectorAll("figure .pointed").forEach((svg) => svg.setAttribute("tabindex", "0"));
// A figure's data is read when the figure comes near the window.
const watch = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watch.unobserve(entry.target);
    enliven(entry.target);
  }
}, { rootMargin: "400px" });
document.querySelectorAll("figure").forEach((figure) => watch.observe(figure));

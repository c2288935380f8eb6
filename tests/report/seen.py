"""What is asked of a page as it is shown: scripts that the photographs' tests run inside it."""
# ruff: noqa: E501 (the lines are JavaScript)

# Colours may come as rgb(), rgba() or color(srgb ...); layers are laid over the page's paper.
_COLOURS = """
const parts = (text) => {
  const found = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
  const scale = text.startsWith('color(') ? 255 : 1;
  return [...found.slice(0, 3).map((v) => v * scale), found[3] ?? 1];
};
const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
const light = (c) => {
  const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};
const behind = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(parts(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
};
const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true })
  && !element.closest('.unseen');
"""

# Every text that can be seen, with the contrast of its colour against what is behind it.
FAINT = (
    """(least) => {"""
    + _COLOURS
    + """
const faint = new Set();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let count = 0;
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !element || /^(SCRIPT|STYLE|OPTION)$/.test(element.tagName)) continue;
  if (!shown(element)) continue;
  count += 1;
  const style = getComputedStyle(element);
  const ground = behind(element);
  const ink = parts(element instanceof SVGElement ? style.fill : style.color);
  const found = contrast(over(ink, ground), ground);
  if (found < least) faint.add(`${found.toFixed(2)} ${element.tagName}.${element.getAttribute('class')}: ${texts.currentNode.data.trim().slice(0, 30)}`);
}
return { count, faint: [...faint] };
}"""
)

# What reaches beyond the window, unless it lies in a box that scrolls or cuts.
TOO_WIDE = """() => {
const held = (e) => {
  for (let box = e.parentElement; box && box !== document.body; box = box.parentElement) {
    if (getComputedStyle(box).overflowX !== 'visible' && !(box instanceof SVGElement)) return true;
  }
  return false;
};
return [...document.body.querySelectorAll('*')].filter((e) => {
  const box = e.getBoundingClientRect();
  return box.width && e.checkVisibility({ visibilityProperty: true }) && (box.right > innerWidth + 1 || box.left < -1) && !held(e) && !e.closest('.unseen, #tip');
}).map((e) => `${e.tagName}.${e.getAttribute('class')} ${Math.round(e.getBoundingClientRect().right)}`);
}"""

# Texts of one drawing that lie on one another, and texts that leave it.
COLLIDING = """() => {
const odd = [];
for (const drawing of document.querySelectorAll('figure .drawing')) {
  const frame = drawing.getBoundingClientRect();
  if (!frame.width) continue;
  const name = drawing.closest('figure').id;
  const texts = [...drawing.querySelectorAll('text')].filter((t) => t.textContent.trim())
    .map((t) => ({ text: t.textContent, box: t.getBoundingClientRect() }));
  for (const { text, box } of texts) {
    if (box.left < frame.left - 2 || box.right > frame.right + 2
      || box.top < frame.top - 2 || box.bottom > frame.bottom + 2) odd.push(`${name}: "${text}" leaves the drawing`);
  }
  texts.forEach((one, i) => texts.slice(i + 1).forEach((other) => {
    const across = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
    const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
    if (across > 1 && down > 0.35 * Math.min(one.box.height, other.box.height)) odd.push(`${name}: "${one.text}" on "${other.text}"`);
  }));
}
return odd;
}"""

SMALLEST = """() => [...document.querySelectorAll('figure .drawing text')].filter((t) => t.textContent.trim())
  .map((t) => [t.getScreenCTM().a * parseFloat(getComputedStyle(t).fontSize), `${t.closest('figure').id}: ${t.textContent}`])
  .sort((a, b) => a[0] - b[0])[0]"""

# Notes each thing that the keyboard meets, and whether it can be seen there.
WATCH_FOCUS = """() => {
window.met = new Map();
addEventListener('focusin', ({ target }) => {
  const style = getComputedStyle(target);
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  if (window.met.has(target)) window.round = true;
  else window.met.set(target, ring);
});
}"""
MET = """() => ({ count: window.met.size, round: window.round ?? false,
  unseen: [...window.met].filter(([, ring]) => !ring)
    .map(([e]) => `${e.tagName}.${e.getAttribute('class')} ${e.id}`) })"""

# What answers to a person, and was not met by the keyboard. Rows of the list are walked by arrows.
UNMET = """() => [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex]')]
  .filter((e) => e.checkVisibility({ visibilityProperty: true }) && !window.met.has(e))
  .filter((e) => !(e.closest('#rows') && e.tabIndex < 0))
  .map((e) => `${e.tagName}.${e.getAttribute('class')} ${e.id}`)"""

# Sections of the page and where each lies, in pixels of the whole page.
PARTS = """() => [['head', document.querySelector('.head')], ['glance', document.querySelector('.cards')?.closest('section')],
  ...[...document.querySelectorAll('main figure, main section[id]')].map((e) => [e.id, e])]
  .filter(([, e]) => e).map(([name, e]) => [name, e.getBoundingClientRect()])
  .map(([name, b]) => ({ name, left: b.left + scrollX, top: b.top + scrollY, width: b.width, height: b.height }))"""

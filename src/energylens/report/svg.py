"""From matplotlib's SVG to one that lives inside the page: smaller, and coloured by variables.

The page's policy allows no style attributes, so styles become presentation attributes; each
colour of the palette becomes its CSS variable, so one drawing serves light, dark and print.
"""

import re
from xml.etree import ElementTree

from energylens.report.palette import VARIABLE

_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_NUMBER = re.compile(r"-?\d+\.\d+")
_SHORTHAND = re.compile(r"(?:(?P<weight>bold|[1-9]00) )?(?P<size>[\d.]+px) ")
_DROPPED = {"font-family", "stroke-linejoin", "stroke-dashoffset", "font-style"}
_USELESS = {("stroke-linecap", "butt"), ("stroke-opacity", "1"), ("font-weight", "400")}
MOST_MARKERS = 150  # above this a cloud of round markers is written as a few dotted paths
LAYERS_OF_A_CLOUD = 48  # paths a cloud is dealt to: where they overlap, density shows


def for_page(drawing: str, *, name: str, label: str, pointed: bool = False) -> str:
    """The inner drawing of an SVG file as markup for the page.

    Args:
        drawing: What matplotlib wrote, drawn in the palette's light colours.
        name: Makes the ids of this drawing unique on the page.
        label: What a reader who cannot see the drawing is told.
        pointed: Whether it has points that answer to the pointer and the keyboard.
    """
    root = ElementTree.fromstring(drawing)
    view_box = root.attrib["viewBox"]
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    _drop_stylesheets(root)
    _rewrite(root, name)
    root.attrib.clear()
    kind = "drawing pointed" if pointed else "drawing"
    root.attrib.update({"viewBox": view_box, "role": "img", "aria-label": label, "class": kind})
    _unwrap(root)
    return ElementTree.tostring(root, encoding="unicode")


def _drop_stylesheets(root: ElementTree.Element) -> None:
    for parent in list(root.iter()):
        for style in parent.findall(f"{_SVG}style"):
            parent.remove(style)


def _rewrite(element: ElementTree.Element, name: str) -> None:
    element.tag = element.tag.removeprefix(_SVG)
    dots = element.attrib.get("id", "").startswith("dots")
    element.attrib.update(_presentation(element.attrib.pop("style", "")))
    _prefix_ids(element, name)
    _round(element)
    if element.text and not element.text.strip():
        element.text = None
    element.tail = None
    for child in element:
        _rewrite(child, name)
    if dots:
        _condense(element)


def _presentation(style: str) -> dict[str, str]:
    """Declarations as attributes, palette colours as variables."""
    attributes: dict[str, str] = {}
    for declaration in filter(None, style.split("; ")):
        key, value = declaration.split(": ", 1)
        if key == "font":
            if found := _SHORTHAND.match(value + " "):
                attributes["font-size"] = found["size"]
                attributes |= {"font-weight": found["weight"]} if found["weight"] else {}
        elif key not in _DROPPED and (key, value) not in _USELESS:
            attributes[key] = VARIABLE.get(value, value)
    if attributes.get("stroke-opacity") == "0":
        attributes = {k: v for k, v in attributes.items() if not k.startswith("stroke")}
        attributes["stroke"] = "none"
    return attributes


def _prefix_ids(element: ElementTree.Element, name: str) -> None:
    """Keep only ids that something can refer to, and make them this drawing's own."""
    if element.tag in ("path", "clipPath") and "id" in element.attrib:
        element.attrib["id"] = f"{name}-{element.attrib['id']}"
    else:
        element.attrib.pop("id", None)
    if reference := element.attrib.pop(_HREF, ""):
        element.attrib["href"] = f"#{name}-{reference.removeprefix('#')}"
    if clip := element.attrib.get("clip-path"):
        element.attrib["clip-path"] = clip.replace("url(#", f"url(#{name}-")


def _round(element: ElementTree.Element) -> None:
    if element.attrib.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for key in ("x", "y", "d", "width", "height", "transform"):
        if key in element.attrib:
            text = " ".join(element.attrib[key].split())
            element.attrib[key] = _NUMBER.sub(
                lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), text
            )


def _condense(group: ElementTree.Element) -> None:
    """Thousands of `<use>` markers become a few paths of round-capped dots."""
    marker = group.find("defs/path")
    markers = group.findall("g/use")
    if marker is None or len(markers) <= MOST_MARKERS:
        return
    radius = abs(float(marker.attrib["d"].split()[2]))
    dealt: list[list[str]] = [[] for _ in range(LAYERS_OF_A_CLOUD)]
    for i, use in enumerate(markers):
        dealt[i % LAYERS_OF_A_CLOUD].append(f"M{use.attrib['x']} {use.attrib['y']}h0")
    paint = markers[0].attrib
    holder = group.findall("g")[0]
    for child in list(group):
        if child is not holder:
            group.remove(child)
    holder[:] = [ElementTree.Element("path", {"d": "".join(part)}) for part in dealt]
    holder.attrib.update({
        "fill": "none", "stroke": paint["fill"], "stroke-width": f"{2 * radius:g}",
        "stroke-linecap": "round", "stroke-opacity": paint.get("fill-opacity", "1"),
    })  # fmt: skip


def _unwrap(element: ElementTree.Element) -> None:
    """Groups that carry nothing dissolve into their parent."""
    kept: list[ElementTree.Element] = []
    for child in element:
        _unwrap(child)
        if child.tag in ("g", "defs") and not len(child):
            continue
        kept.extend(child if child.tag == "g" and not child.attrib else [child])
    element[:] = kept

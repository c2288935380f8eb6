"""Colours by role. Figures are drawn in the light ones; in the page each becomes its variable."""

LIGHT: dict[str, str] = {
    "paper": "#fcfcfb",
    "ink": "#1b1f24",
    "muted": "#5b6169",
    "hairline": "#e4e4e0",
    "null": "#dadad4",
    "dot": "#878c94",
    "accent": "#0f766e",
    "attractor": "#2563eb",
    "repulsor": "#d9480f",
}
DARK: dict[str, str] = {
    "paper": "#16181b",
    "ink": "#e7e7e3",
    "muted": "#a2a7ae",
    "hairline": "#2c2f33",
    "null": "#383c42",
    "dot": "#8d939b",
    "accent": "#2dd4bf",
    "attractor": "#6ea8fe",
    "repulsor": "#ff8a5c",
}
VARIABLE: dict[str, str] = {colour: f"var(--{role})" for role, colour in LIGHT.items()}


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2.2, 1 to 21.

    Example:
        >>> round(contrast("#000000", "#ffffff"), 1)
        21.0
    """
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

"""Numbers in words: as many digits as the interval supports, no zero before the point."""

import math

MINUS = "−"


def number(value: float | int, *, digits: int = 3, signed: bool = False) -> str:
    """A number to some significant digits; whole numbers keep all of theirs.

    Example:
        >>> number(0.2184), number(-31.07), number(3790), number(0.05, signed=True), number(0.30)
        ('.218', '−31.1', '3,790', '+.05', '.3')
        >>> number(0.0000123), number(float("nan"))
        ('1.23 × 10⁻⁵', 'undefined')
    """
    if not math.isfinite(value):
        return "undefined" if math.isnan(value) else _sign(value, signed) + "∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-4 or size >= 1e12:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        return f"{_sign(value, signed)}{_trim(mantissa)} × 10{_raised(int(exponent))}"
    if isinstance(value, int) or value.is_integer():
        return _sign(value, signed) + f"{size:,.0f}"
    places = digits - 1 - math.floor(math.log10(size))
    return _sign(value, signed) + _trim(_bare(f"{round(size, places):,.{max(0, places)}f}"))


def fixed(value: float | int, places: int, *, signed: bool = False) -> str:
    """A number with a fixed count of places; fewer than none rounds to tens or hundreds.

    Example:
        >>> fixed(0.2, 2), fixed(-1234.6, 0), fixed(1234.6, -2), fixed(-0.001, 2)
        ('.20', '−1,235', '1,200', '.00')
    """
    if not math.isfinite(value):
        return number(value, signed=signed)
    rounded = round(value, places)
    sign = _sign(rounded, signed) if rounded else ""
    return sign + _bare(f"{abs(rounded):,.{max(0, places)}f}")


def places_of(low: float | int, high: float | int) -> int:
    """Places after the point that an interval supports: the first digit of its width.

    Two digits where the first is 1 or 2, since one would then be as coarse as the interval.

    Example:
        >>> places_of(0.1712, 0.2633), places_of(0.213, 0.224), places_of(11_700, 12_900)
        (2, 3, -2)
    """
    width = high - low
    if not (math.isfinite(width) and width > 0):
        return 3
    return _first_place(width) + _is_coarse(width)


def interval(
    value: float | int, low: float | int, high: float | int, *, signed: bool = False
) -> str:
    """A value and its interval, each to the digits that the width of the interval supports.

    Example:
        >>> interval(0.2184, 0.1712, 0.2633), interval(31.07, 27.2, 35.1)
        ('.218 [.17, .26]', '31.1 [27, 35]')
        >>> interval(12_345, 11_700, 12_900), interval(19, 12, 27)
        ('12,345 [11,700, 12,900]', '19 [12, 27]')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return number(value, signed=signed)
    ends = places_of(low, high)
    inner = _first_place(high - low) + 1 if high > low else ends
    shown = fixed(value, inner, signed=signed)
    if math.isfinite(value) and float(value).is_integer():
        shown = number(value, signed=signed)
    return f"{shown} [{fixed(low, ends, signed=signed)}, {fixed(high, ends, signed=signed)}]"


def count(part: int, whole: int) -> str:
    """So many of so many.

    Example:
        >>> count(19, 3790)
        '19 of 3,790'
    """
    return f"{part:,} of {whole:,}"


def percent(share: float | int, *, digits: int = 2) -> str:
    """A share as a percentage.

    Example:
        >>> percent(0.0432), percent(1.0), percent(0)
        ('4.3 %', '100 %', '0 %')
    """
    if not math.isfinite(share):
        return "undefined"
    size = abs(share * 100)
    places = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    text = f"{size:.{places}f}"
    return (MINUS if share < 0 else "") + (_trim(text) if "." in text else text) + " %"


def p_value(p: float | int, *, relation: bool = True) -> str:
    """A p or q with its relation; three places below .1, two above, never "= .000".

    Example:
        >>> p_value(0.00004), p_value(0.0312), p_value(0.3), p_value(1.0)
        ('< .001', '= .031', '= .30', '= 1')
    """
    if not math.isfinite(p):
        return "undefined"
    if p < 0.001:
        return "< .001"
    shown = "> .99" if 0.995 <= p < 1 else "1" if p == 1 else fixed(p, 3 if p < 0.1 else 2)
    return shown if not relation or shown.startswith(">") else f"= {shown}"


def duration(seconds: float | int) -> str:
    """A stretch of time, as a person says it.

    Example:
        >>> duration(0.42), duration(41.4), duration(200), duration(7_380), duration(200_000)
        ('0.4 s', '41 s', '3 min 20 s', '2 h 3 min', '2 d 7 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for larger, smaller, names in ((86_400, 3_600, "d h"), (3_600, 60, "h min"), (60, 1, "min s")):
        if whole >= larger:
            big, small = names.split()
            rest = whole % larger // smaller
            return f"{whole // larger} {big}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def size(num_bytes: float | int) -> str:
    """An amount of memory or disk, in powers of ten.

    Example:
        >>> size(512), size(34_500_000), size(1_250_000_000)
        ('512 B', '34 MB', '1.2 GB')
    """
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            amount = num_bytes / scale
            return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"
    return f"{num_bytes:.0f} B"


def _first_place(width: float | int) -> int:
    return -math.floor(math.log10(width))


def _is_coarse(width: float | int) -> bool:
    return width * 10.0 ** _first_place(width) < 3


def _sign(value: float | int, signed: bool) -> str:
    return MINUS if value < 0 else "+" if signed else ""


def _bare(text: str) -> str:
    return text[1:] if text.startswith("0.") else text


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def several(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    Example:
        >>> several(1, "feature"), several(3790, "feature"), several(0, "discovery", "discoveries")
        ('1 feature', '3,790 features', 'no discoveries')
    """
    many = plural or noun + "s"
    if count == 0:
        return f"no {many}"
    return f"{count:,} {noun if count == 1 else many}"

"""Figures as people read them: the one way in which a share is written, in tables, reports, plots and errors.

Sentences belong to the room that knows what they are about.
"""

# Frauds are a few in a thousand: with one place, 0.84 % and 0.76 % would read alike.
SMALL_SHARE = 0.02


def percent(share: float) -> str:
    """A share in percent, to one place; below 2 %, to two.

    >>> [percent(share) for share in (0.1234, 0.0084, 0.0, 1.0, -0.3)]
    ['12.3 %', '0.84 %', '0.0 %', '100.0 %', '-30.0 %']
    """
    return f"{share * 100:.{2 if 0 < share < SMALL_SHARE else 1}f} %"


def adjusted_p(p: float) -> str:
    """A p that is adjusted for what was tested with it, to three places.

    >>> [adjusted_p(p) for p in (0.25, 0.0004)]
    ['adjusted p 0.250', 'adjusted p below 0.001']
    """
    return "adjusted p below 0.001" if p < 0.001 else f"adjusted p {p:.3f}"


def number(value: float) -> str:
    """A number to three digits, or all digits before the point.

    >>> [number(value) for value in (51.2345, 0.012345, 14567.8, 0.0)]
    ['51.2', '0.0123', '14,568', '0']
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

"""Keyed draws in plain Python integers and floats: the twin of `simulation.randomness`, of which it imports nothing."""

import math
import struct
from decimal import Decimal, localcontext

MASK = 2**64 - 1
WEYL, STREAM = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
SERVICE, BACKOFF, SPLIT, ERROR, ROUTE, PATIENCE = range(6)


def mix(z: int) -> int:
    """Finish SplitMix64."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def bits(seed: int, arrival: int, attempt: int, purpose: int) -> int:
    """64 bits of a key."""
    stream = (attempt * 64 + purpose + 1) & MASK
    key = mix((mix((seed + WEYL) & MASK) + stream * STREAM) & MASK)
    return mix((key + arrival * WEYL) & MASK)


def further(b: int, n: int) -> int:
    """The n-th further 64 bits."""
    return mix((b + n * STREAM) & MASK)


def uniform(b: int) -> float:
    """In (0, 1)."""
    return ((b >> 12) + 0.5) * 2.0**-52


def _as_int(x: float) -> int:
    return struct.unpack("<q", struct.pack("<d", x))[0]


def _as_float(n: int) -> float:
    return struct.unpack("<d", struct.pack("<q", n))[0]


OFFSET = 0x3FE6000000000000
with localcontext() as _context:
    _context.prec = 40
    _LN_2 = Decimal(2).ln()
    LN_2 = float(_LN_2)
    CENTRES, LOGS, POWERS = [], [], []
    for _place in range(128):
        _low, _high = _as_float(OFFSET + (_place << 45)), _as_float(OFFSET + ((_place + 1) << 45))
        _centre = 1.0 if 1.0 in (_low, _high) else (_low + _high) / 2.0
        CENTRES.append(_centre)
        LOGS.append(float(Decimal(_centre).ln()))
        POWERS.append(float((_LN_2 * _place / 128).exp()))
    _STEP = _LN_2 / 128
    STEP_HIGH = math.floor(float(_STEP) * 2.0**40) * 2.0**-40
    STEP_LOW = float(_STEP - Decimal(STEP_HIGH))


def log(x: float) -> float:
    """ln x, in the same additions and multiplications."""
    n = _as_int(x)
    exponent, place = (n - OFFSET) >> 52, ((n - OFFSET) >> 45) & 127
    r = (_as_float(n - (exponent << 52)) - CENTRES[place]) * (1.0 / CENTRES[place])
    r2 = r * r
    tail = (1 / 3 - 0.25 * r) + r2 * ((0.2 - 1 / 6 * r) + r2 * (1 / 7))
    return exponent * LN_2 + (LOGS[place] + (r + r2 * (r * tail - 0.5)))


def exp(x: float) -> float:
    """e to the x."""
    steps = math.floor(x * (1.0 / (STEP_HIGH + STEP_LOW)) + 0.5)
    r = (x - steps * STEP_HIGH) - steps * STEP_LOW
    series = r * (1.0 + r * (0.5 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120)))))
    power = POWERS[steps & 127]
    return 2.0 ** (steps >> 7) * (power + power * series)


def exponential(b: int) -> float:
    """Mean 1."""
    return -log(uniform(b))


def _ratio(top: list[float], low: list[float], r: float) -> float:
    a = b = 0.0
    for n, (x, y) in enumerate(zip(top, low, strict=True)):
        a, b = (a * r + x, b * r + y) if n else (x, y)
    return a / b


_CENTRAL = (
    [2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608],
    [5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0],
)  # fmt: skip
_MIDDLE = (
    [7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734],
    [1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0],
)  # fmt: skip
_FAR = (
    [2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772],
    [2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0],
)  # fmt: skip


def normal(b: int) -> float:
    """Standard normal, by AS 241."""
    p = uniform(b)
    q = p - 0.5
    if abs(q) <= 0.425:
        a = c = 0.0
        r = 0.180625 - q * q
        for n, (x, y) in enumerate(zip(*_CENTRAL, strict=True)):
            a, c = (a * r + x, c * r + y) if n else (x, y)
        return q * a / c
    r = math.sqrt(-log(p if q < 0.0 else 1.0 - p))
    size = _ratio(*_MIDDLE, r - 1.6) if r <= 5.0 else _ratio(*_FAR, r - 5.0)
    return -size if q < 0.0 else size


def duration(b: int, kind: str, mean_s: float, scv: float) -> float:
    """A duration by kind, mean and squared coefficient of variation."""
    if kind == "deterministic" or (kind == "lognormal" and scv == 0.0):
        return mean_s
    if kind == "exponential":
        return mean_s * exponential(b)
    if kind == "lognormal":
        variance = math.log1p(scv)
        return exp(math.log(mean_s) - variance / 2.0 + math.sqrt(variance) * normal(b))
    branch = uniform(further(b, 1))
    if kind == "hyperexponential":
        p = (1.0 + math.sqrt((scv - 1.0) / (scv + 1.0))) / 2.0
        return (mean_s / (2.0 * p) if branch < p else mean_s / (2.0 * (1.0 - p))) * exponential(b)
    k = math.ceil(round(1.0 / scv, 9))
    fewer = max(0.0, (k * scv - math.sqrt(max(0.0, k * (1.0 + scv) - k * k * scv))) / (1.0 + scv))
    phases = k - (1 if branch < fewer else 0)
    total = 0.0
    for n in range(phases):
        total += exponential(further(b, 2 + n))
    return total * (mean_s / (k - fewer))

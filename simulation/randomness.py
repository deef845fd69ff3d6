"""
Random draws as pure functions of (seed, arrival, attempt, purpose): nothing is consumed, so nothing shifts.

Start at `uniforms`. Plan A may reject a request that plan B serves: the draws of all other requests, and of the other
purposes of that request, stay what they were. The compiled scalar forms (`stream_key`, `bits_at`, `uniform_of`) are
for kernels; the array forms loop over them, so both give the same bits.

Bits come from the finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")
over a Weyl sequence in the arrival number; seed, attempt and purpose choose where that sequence starts. Logarithm and
exponential are written out in additions, multiplications and tables of correctly rounded values, because the system's
mathematical library differs from machine to machine in the last bit, and a run must give the same bytes everywhere.
"""

import math
from decimal import Decimal, localcontext
from enum import IntEnum

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from simulation.errors import InvalidWorkload

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Purpose(IntEnum):
    """What a draw is for; two purposes of one request are independent."""

    SERVICE = 0
    BACKOFF = 1
    SPLIT = 2
    ERROR = 3
    ROUTE = 4
    PATIENCE = 5
    TRAFFIC = 16
    THINNING = 17
    FAULTS = 18
    TRAINING = 19
    INITIAL_STATE = 20
    TRAFFIC_LEVEL = 21


# Kinds of distribution, as the kernels know them.
DETERMINISTIC, EXPONENTIAL, ERLANG, LOGNORMAL, HYPEREXPONENTIAL = range(5)

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_STREAM = np.uint64(0xD1342543DE82EF95)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_PURPOSES = np.uint64(64)
_U1, _U12, _U27, _U30, _U31 = (np.uint64(n) for n in (1, 12, 27, 30, 31))

_TABLE = 128
_LN_OFFSET = 0x3FE6000000000000  # the mantissa is taken from [0.6875, 1.375), so that 1 lies inside and ln 1 is exact


def _tables() -> tuple[FloatArray, FloatArray, FloatArray, float, float, float]:
    """Return centres and their logarithms, powers of two, ln 2, and ln 2 / 128 in two parts, each rounded once."""
    with localcontext() as context:
        context.prec = 40
        ln_2 = Decimal(2).ln()
        centres = np.empty(_TABLE)
        for i in range(_TABLE):
            low_bits = _LN_OFFSET + (i << 45)
            low, high = np.array([low_bits, low_bits + (1 << 45)], np.int64).view(np.float64)
            centres[i] = 1.0 if 1.0 in (low, high) else (low + high) / 2.0
        logs = np.array([float(Decimal(float(c)).ln()) for c in centres])
        powers = np.array([float((ln_2 * i / _TABLE).exp()) for i in range(_TABLE)])
        step = ln_2 / _TABLE
        high_part = math.ldexp(math.floor(math.ldexp(float(step), 40)), -40)  # few bits: k × high_part is exact
        return centres, logs, powers, float(ln_2), high_part, float(step - Decimal(high_part))


_CENTRES, _LOGS, _POWERS, _LN_2, _STEP_HIGH, _STEP_LOW = _tables()
_INVERSE_CENTRES = 1.0 / _CENTRES
_STEPS_PER_UNIT = 1.0 / (_STEP_HIGH + _STEP_LOW)


@njit(nogil=True)
def mix(z: np.uint64) -> np.uint64:
    """Return the SplitMix64 finaliser of 64 bits: a bijection in which each input bit flips half of the output."""
    z = (z ^ (z >> _U30)) * _MIX_1
    z = (z ^ (z >> _U27)) * _MIX_2
    return z ^ (z >> _U31)


@njit(nogil=True)
def stream_key(seed: int, attempt: int, purpose: int) -> np.uint64:
    """Return where the sequence of this seed, attempt and purpose starts."""
    stream = np.uint64(attempt) * _PURPOSES + np.uint64(purpose) + _U1
    return mix(mix(np.uint64(seed) + _WEYL) + stream * _STREAM)


@njit(nogil=True)
def bits_at(key: np.uint64, arrival: int) -> np.uint64:
    """Return the 64 bits of an arrival in a sequence."""
    return mix(key + np.uint64(arrival) * _WEYL)


@njit(nogil=True)
def further_bits(bits: np.uint64, n: int) -> np.uint64:
    """Return the n-th further 64 bits for the same key and arrival, n from 1."""
    return mix(bits + np.uint64(n) * _STREAM)


@njit(nogil=True)
def uniform_of(bits: np.uint64) -> float:
    """Return a number in the open interval (0, 1): 52 bits and a half, so neither end can occur."""
    return (np.float64(np.int64(bits >> _U12)) + 0.5) * 2.220446049250313e-16


@njit(nogil=True)
def portable_log(x: float) -> float:
    """Return ln x for a normal x > 0 with an error of about 1e-16, the same bits on every machine."""
    x_bits = np.float64(x).view(np.int64)
    shifted = x_bits - _LN_OFFSET
    exponent = shifted >> 52
    place = (shifted >> 45) & (_TABLE - 1)
    z = np.int64(x_bits - (exponent << 52)).view(np.float64)
    r = (z - _CENTRES[place]) * _INVERSE_CENTRES[place]
    r2 = r * r
    tail = (0.3333333333333333 - 0.25 * r) + r2 * ((0.2 - 0.16666666666666666 * r) + r2 * 0.14285714285714285)
    value: float = np.float64(exponent) * _LN_2 + (_LOGS[place] + (r + r2 * (r * tail - 0.5)))
    return value


@njit(nogil=True)
def portable_exp(x: float) -> float:
    """Return e to the power x for |x| < 700 with a relative error of about 2e-16, the same bits on every machine."""
    steps = np.int64(math.floor(x * _STEPS_PER_UNIT + 0.5))
    r = (x - np.float64(steps) * _STEP_HIGH) - np.float64(steps) * _STEP_LOW
    series = r * (1.0 + r * (0.5 + r * (0.16666666666666666 + r * (0.041666666666666664 + r * 0.008333333333333333))))
    power = _POWERS[steps & (_TABLE - 1)]
    value: float = np.int64(((steps >> 7) + 1023) << 52).view(np.float64) * (power + power * series)
    return value


@njit(nogil=True)
def exponential_of(bits: np.uint64) -> float:
    """Return a number > 0 with mean 1."""
    return -portable_log(uniform_of(bits))


@njit(nogil=True)
def normal_near_middle(p: float) -> float:
    """Return the standard normal number below which a share p lies, for p within 0.425 of a half."""
    q = p - 0.5
    r = 0.180625 - q * q
    top = ((((((2509.0809287301226727 * r + 33430.575583588128105) * r + 67265.770927008700853) * r
              + 45921.953931549871457) * r + 13731.693765509461125) * r + 1971.5909503065514427) * r
           + 133.14166789178437745) * r + 3.387132872796366608  # fmt: skip
    low = ((((((5226.495278852854561 * r + 28729.085735721942674) * r + 39307.89580009271061) * r
              + 21213.794301586595867) * r + 5394.1960214247511077) * r + 687.1870074920579083) * r
           + 42.313330701600911252) * r + 1.0  # fmt: skip
    return q * top / low


@njit(nogil=True)
def normal_of(bits: np.uint64) -> float:
    """Return a standard normal number: the inverse distribution function of Wichura (1988), AS 241, at a uniform."""
    p = uniform_of(bits)
    q = p - 0.5
    if abs(q) <= 0.425:
        return normal_near_middle(p)
    r = math.sqrt(-portable_log(p if q < 0.0 else 1.0 - p))
    if r <= 5.0:
        r -= 1.6
        top = ((((((7.7454501427834140764e-4 * r + 0.0227238449892691845833) * r + 0.24178072517745061177) * r
                  + 1.27045825245236838258) * r + 3.64784832476320460504) * r + 5.7694972214606914055) * r
               + 4.6303378461565452959) * r + 1.42343711074968357734  # fmt: skip
        low = ((((((1.05075007164441684324e-9 * r + 5.475938084995344946e-4) * r + 0.0151986665636164571966) * r
                  + 0.14810397642748007459) * r + 0.68976733498510000455) * r + 1.6763848301838038494) * r
               + 2.05319162663775882187) * r + 1.0  # fmt: skip
    else:
        r -= 5.0
        top = ((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r + 0.0012426609473880784386) * r
                  + 0.026532189526576123093) * r + 0.29656057182850489123) * r + 1.7848265399172913358) * r
               + 5.4637849111641143699) * r + 6.6579046435011037772  # fmt: skip
        low = ((((((2.04426310338993978564e-15 * r + 1.4215117583164458887e-7) * r + 1.8463183175100546818e-5) * r
                  + 7.868691311456132591e-4) * r + 0.0148753612908506148525) * r + 0.13692988092273580531) * r
               + 0.59983220655588793769) * r + 1.0  # fmt: skip
    return -top / low if q < 0.0 else top / low


@njit(nogil=True)
def duration_of(bits: np.uint64, kind: int, a: float, b: float, c: float) -> float:
    """Return a duration in seconds; what a, b and c mean for each kind says `Distribution.parameters`."""
    if kind == EXPONENTIAL:
        return a * exponential_of(bits)
    if kind == DETERMINISTIC:
        return a
    if kind == LOGNORMAL:
        return portable_exp(a + b * normal_of(bits))
    branch = uniform_of(further_bits(bits, 1))
    if kind == HYPEREXPONENTIAL:
        return (b if branch < a else c) * exponential_of(bits)
    phases = np.int64(a) - (1 if branch < b else 0)
    total = 0.0
    for n in range(phases):
        total += exponential_of(further_bits(bits, 2 + n))
    return total * c


@njit(cache=True, nogil=True)
def _fill(seed: int, arrivals: IntArray, attempts: IntArray, purpose: int, form: int, out: FloatArray) -> None:
    """Write the uniform (0), exponential (1) or normal (2) draw of each arrival and attempt."""
    for i in range(arrivals.shape[0]):
        bits = bits_at(stream_key(seed, attempts[i], purpose), arrivals[i])
        if form == 0:
            out[i] = uniform_of(bits)
        elif form == 1:
            out[i] = exponential_of(bits)
        else:
            out[i] = normal_of(bits)


def uniforms(seed: int, arrivals: ArrayLike, attempts: ArrayLike, purpose: int) -> FloatArray:
    """
    Return one number in (0, 1) per arrival and attempt.

    Parameters
    ----------
    seed : 0 <= seed < 2**63
        Of the trial.
    arrivals : integers >= 0, any shape
        Numbers of the arrivals, or of whatever else is drawn for.
    attempts : integers >= 0, broadcast against `arrivals`
        0 for the first attempt of a request.
    purpose : 0 <= purpose < 64
        See `Purpose`; purposes under 16 belong to the data plane.

    Returns
    -------
    draws : the broadcast shape of `arrivals` and `attempts`
        The same bits whatever else is drawn, and in whatever order.

    Raises
    ------
    InvalidWorkload
        If a part of the key is not a whole number in its range.

    Examples
    --------
    >>> bool(uniforms(7, [3], 0, Purpose.TRAFFIC)[0] == uniforms(7, [1, 2, 3], 0, Purpose.TRAFFIC)[2])
    True
    """
    return _draw(seed, arrivals, attempts, purpose, 0)


def exponentials(seed: int, arrivals: ArrayLike, attempts: ArrayLike, purpose: int) -> FloatArray:
    """Return one exponential number with mean 1 per arrival and attempt; arguments and errors as for `uniforms`."""
    return _draw(seed, arrivals, attempts, purpose, 1)


def normals(seed: int, arrivals: ArrayLike, attempts: ArrayLike, purpose: int) -> FloatArray:
    """Return one standard normal number per arrival and attempt; arguments and errors as for `uniforms`."""
    return _draw(seed, arrivals, attempts, purpose, 2)


def check_seed(seed: int) -> int:
    """Return the seed as a plain integer, or raise `InvalidWorkload`."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**63:
        raise InvalidWorkload(f"seed {seed!r} is not a whole number from 0 to 2**63 - 1; give one")
    return int(seed)


def _draw(seed: int, arrivals: ArrayLike, attempts: ArrayLike, purpose: int, form: int) -> FloatArray:
    keys = []
    for name, values in (("arrivals", np.asarray(arrivals)), ("attempts", np.asarray(attempts))):
        if values.size and (values.dtype.kind not in "iu" or values.min() < 0):
            raise InvalidWorkload(f"{name} must be whole numbers from 0 on, got {values.dtype} {values.ravel()[:3]}")
        keys.append(values.astype(np.int64))
    if not 0 <= purpose < 64:
        raise InvalidWorkload(f"purpose {purpose} is not in 0..63; use a member of Purpose")
    numbers, tries = (np.array(part) for part in np.broadcast_arrays(*keys))
    out = np.empty(numbers.shape)
    # Without the compiler numpy scalars do the arithmetic, and warn about the wrap-around that is meant.
    with np.errstate(over="ignore"):
        _fill(check_seed(seed), numbers.ravel(), tries.ravel(), int(purpose), form, out.reshape(-1))
    return out

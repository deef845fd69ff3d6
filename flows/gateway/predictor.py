"""
One LightGBM model, asked through its C interface: one row in about 7 µs, batches in one call; start at `Predictor`.

The library is opened by LightGBM's own `libpath` module without running the package: its `__init__` imports pandas and
scikit-learn, 1.7 s and 100 MB that a gateway never uses.
"""

import ctypes
import importlib.util
import math
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulation.errors import LullError

FloatArray = NDArray[np.float64]

# Constants of LightGBM's c_api.h.
_FLOAT64 = ctypes.c_int(1)
_ROW_MAJOR = ctypes.c_int(1)
_NORMAL, _RAW_SCORE = 0, 1
# One thread: rows are small, and the threads belong to the requests beside.
_PARAMETERS = b"num_threads=1"


class InvalidModel(LullError):
    """A model text that LightGBM cannot read, or that does not give one score per row."""


@dataclass(frozen=True)
class Calibration:
    """A correction on the log-odds: p = sigmoid(slope * raw score + intercept)."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope > 0):
            raise InvalidModel(
                f"calibration slope {self.slope!r} must be above zero and intercept {self.intercept!r} finite"
            )

    def probability(self, raw_score: float) -> float:
        """Return the calibrated probability of one raw score; never overflows."""
        logit = self.slope * raw_score + self.intercept
        if logit >= 0:
            return 1.0 / (1.0 + math.exp(-logit))
        odds = math.exp(logit)
        return odds / (1.0 + odds)


class Predictor:
    """
    A loaded model that any thread may ask.

    Parameters
    ----------
    model_text
        What `Booster.model_to_string` returns: text, never a pickle.
    calibration
        Applied to the raw score; only for a binary objective.

    Raises
    ------
    InvalidModel
        If LightGBM refuses the text, or the model gives several scores per row, or cannot be calibrated.

    Notes
    -----
    Without a calibration, scores are bit-equal to `Booster.predict` of the same text (tested).
    """

    def __init__(self, model_text: str, calibration: Calibration | None = None) -> None:
        if calibration is not None and "\nobjective=binary sigmoid:1\n" not in model_text:
            raise InvalidModel("a calibration needs a model with objective 'binary' and sigmoid 1; leave it out")
        self._booster = _Booster(model_text)
        self._calibration = calibration
        self._predict_type = _NORMAL if calibration is None else _RAW_SCORE
        self._per_thread = threading.local()
        self.n_features = self._booster.n_features

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The model's own column names, in order (LightGBM writes blanks as underscores)."""
        return self._booster.feature_names

    def predict_one(self, values: Sequence[float]) -> float:
        """Return the score of one encoded row of `n_features` floats; NaN means missing."""
        try:
            ask = self._per_thread.ask
        except AttributeError:
            ask = self._per_thread.ask = _OneRow(self._booster, self._predict_type)
        score = ask(values)
        return score if self._calibration is None else self._calibration.probability(score)

    def predict_many(self, features: FloatArray) -> FloatArray:
        """Return the scores, shape (n,), of encoded rows, shape (n, n_features)."""
        scores = self._booster.predict(np.ascontiguousarray(features, dtype=np.float64), self._predict_type)
        if self._calibration is None:
            return scores
        return np.array([self._calibration.probability(score) for score in scores.tolist()], dtype=np.float64)


class _Booster:
    """Owns a LightGBM handle; freed when the last user, a running request included, lets go of it."""

    def __init__(self, model_text: str) -> None:
        self.lib = _library()
        self.handle = ctypes.c_void_p()
        n_iterations = ctypes.c_int()
        # LightGBM 4.7 raises from inside its threads on a broken tree and takes the whole process down with it:
        # `package_check` tries a model in a child process before the gateway opens it here.
        self._call(
            "LGBM_BoosterLoadModelFromString",
            model_text.encode(),
            ctypes.byref(n_iterations),
            ctypes.byref(self.handle),
        )
        self.n_features = self._number("LGBM_BoosterGetNumFeature")
        n_scores = self._number("LGBM_BoosterGetNumClasses")
        if n_scores != 1 or n_iterations.value < 1:
            raise InvalidModel(f"a model needs at least one tree and one score per row, not {n_scores} scores")

    def _call(self, name: str, *arguments: object) -> None:
        if getattr(self.lib, name)(*arguments) != 0:
            raise InvalidModel(f"LightGBM refused the model: {self.lib.LGBM_GetLastError().decode(errors='replace')}")

    def _number(self, name: str) -> int:
        number = ctypes.c_int()
        self._call(name, self.handle, ctypes.byref(number))
        return number.value

    @property
    def feature_names(self) -> tuple[str, ...]:
        size = 256
        buffers = [ctypes.create_string_buffer(size) for _ in range(self.n_features)]
        pointers = (ctypes.c_char_p * self.n_features)(*[ctypes.cast(buffer, ctypes.c_char_p) for buffer in buffers])
        n_names, needed = ctypes.c_int(), ctypes.c_size_t()
        self._call(
            "LGBM_BoosterGetFeatureNames", self.handle, ctypes.c_int(self.n_features), ctypes.byref(n_names),
            ctypes.c_size_t(size), ctypes.byref(needed), pointers,
        )  # fmt: skip
        return tuple(buffer.value.decode() for buffer in buffers)

    def predict(self, features: FloatArray, predict_type: int) -> FloatArray:
        scores = np.empty(len(features), dtype=np.float64)
        if features.ndim != 2 or features.shape[1] != self.n_features:
            raise InvalidModel(f"the model reads {self.n_features} columns, not an array of shape {features.shape}")
        self._call(
            "LGBM_BoosterPredictForMat", self.handle, features.ctypes.data_as(ctypes.c_void_p), _FLOAT64,
            ctypes.c_int32(len(features)), ctypes.c_int32(self.n_features), _ROW_MAJOR, ctypes.c_int(predict_type),
            ctypes.c_int(0), ctypes.c_int(-1), _PARAMETERS, ctypes.byref(ctypes.c_int64()),
            scores.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        return scores

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.lib.LGBM_BoosterFree(self.handle)


class _OneRow:
    """LightGBM's fast configuration with its buffers: for one thread, since the buffers are shared between calls."""

    def __init__(self, booster: _Booster, predict_type: int) -> None:
        self._booster = booster  # keeps the handle alive for as long as this configuration points at it
        self._config = ctypes.c_void_p()
        n = booster.n_features
        booster._call(
            "LGBM_BoosterPredictForMatSingleRowFastInit", booster.handle, ctypes.c_int(predict_type), ctypes.c_int(0),
            ctypes.c_int(-1), _FLOAT64, ctypes.c_int32(n), _PARAMETERS, ctypes.byref(self._config),
        )  # fmt: skip
        self._row = (ctypes.c_double * n)()
        self._score = ctypes.c_double()
        self._arguments = (self._config, self._row, ctypes.byref(ctypes.c_int64()), ctypes.byref(self._score))
        self._pack_into = struct.Struct(f"={n}d").pack_into
        self._ask = booster.lib.LGBM_BoosterPredictForMatSingleRowFast

    def __call__(self, values: Sequence[float]) -> float:
        self._pack_into(self._row, 0, *values)
        if self._ask(*self._arguments) != 0:
            raise InvalidModel(f"LightGBM could not score: {self._booster.lib.LGBM_GetLastError().decode()}")
        return self._score.value

    def __del__(self) -> None:
        if getattr(self, "_config", None):
            self._booster.lib.LGBM_FastConfigFree(self._config)


@cache
def _library() -> ctypes.CDLL:
    package = importlib.util.find_spec("lightgbm")
    if package is None or not package.submodule_search_locations:
        raise InvalidModel("LightGBM is not installed; run `pip install lightgbm`")
    source = Path(package.submodule_search_locations[0]) / "libpath.py"
    spec = importlib.util.spec_from_file_location("_lull_lightgbm_libpath", source)
    assert spec is not None, source
    assert spec.loader is not None, source
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    library: ctypes.CDLL = module._LIB
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library

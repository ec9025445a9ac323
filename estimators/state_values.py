"""Python values as JSON: plain data, arrays by reference, the library's own classes by name, models by skops."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from estimators.state_archive import Parts
from theory import StateError

# The classes that a state may hold, and where they live. Names, not import paths, stand in the file, so that
# moving a class does not break files, and a file can name nothing else.
CLASSES: dict[str, str] = {
    **dict.fromkeys(
        (
            *(
                "Arbiter",
                "AutoFusion",
                "CircuitBreaker",
                "CovarianceWeights",
                "DecorrelatedSelection",
                "Defer",
            ),
            *(
                "DynamicSelection",
                "FusionResult",
                "Gate",
                "GreedySelection",
                "OneVsRestCalibration",
                "PanelAnswer",
            ),
            *("PanelFusionClassifier", "PanelFusionRegressor", "PanelTransformer", "PrecomputedSpecialist"),
            *("RobustFusionClassifier", "RobustFusionRegressor", "SkillWeights", "Specialist"),
            *("TemperatureScaling", "TopSpecialists", "TrackRecord", "TruthInference"),
            *("Adjudicator", "Critic", "DeliberativeClassifier", "DeliberativeRegressor", "Escalation"),
            *("EarlyFusionClassifier", "EarlyFusionRegressor"),
            *("EscalationCurve", "FusedAnswer", "RiskCoverage"),
        ),
        "estimators",
    ),
    "Bench": "estimators.deliberation_protocol",
    "BlockScaling": "fusion.early",
    "ConfidenceVote": "estimators.protocol_votes",
    "Consultant": "estimators.protocol_judges",
    "Court": "estimators.court",
    "Debate": "estimators.protocol_debate",
    "Door": "estimators.deliberation_escalation",
    "Finding": "estimators.court",
    "Hearing": "estimators.hearing",
    "Layers": "estimators.protocol_judges",
    "Meeting": "estimators.meeting",
    "Memory": "estimators.deliberation_memory",
    "NumberDoor": "estimators.deliberation_escalation",
    "OwnView": "estimators.protocol_judges",
    "PairCritic": "estimators.protocol_debate",
    "PairMoments": "estimators.pair_moments",
    "PanelFuser": "estimators.fusions",
    "Plurality": "estimators.protocol_votes",
    "PopularSurprise": "estimators.protocol_votes",
    "Prices": "theory",
    "Protocol": "fusion.deliberative",
    "ResidualScale": "estimators.conformal",
    "Rounds": "estimators.protocol_votes",
    "ScaledConcat": "fusion.early",
    "Sealed": "estimators.hearing",
    "StageGain": "estimators.deliberation_escalation",
    "StoredAnswers": "estimators.stored",
    "StoredPanel": "estimators.learning",
    "Temperature": "fusion.deliberative",
    "WithSource": "estimators.protocol_judges",
    "_Circuit": "estimators.breaker",
}
_OWN = ("theory", "fusion", "estimators")
# Kinds whose subclasses hold more than comes back: a mask, an order, a default.
_LOSING = (list, dict, np.ma.MaskedArray, np.matrix)
_BUILT = (list, dict, Bunch)
_TAG = "$"


class Encoder:
    """Turn values into JSON, and collect the arrays and models they hold.

    Attributes
    ----------
    parts : Parts
        What the JSON refers to.
    """

    def __init__(self) -> None:
        self.parts = Parts()
        self._seen: dict[int, tuple[int, Any]] = {}

    def encode(self, value: Any, where: str) -> Any:
        """Encode a value.

        Parameters
        ----------
        value : object
            Anything a fitted fusion may hold.
        where : str
            What it is, for messages.

        Returns
        -------
        object
            What JSON can hold.

        Raises
        ------
        StateError
            If it can be saved in no way.
        """
        if value is None or isinstance(value, bool | str) or type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
        if type(value) not in _BUILT and isinstance(value, _LOSING):
            raise StateError(
                f"{where!r} is a {type(value).__name__}, which would come back as a plain {_plain_kind(value)}. Turn it "
                "into one, or save its parts."
            )
        if isinstance(value, list):
            return [self.encode(one, where) for one in value]
        if isinstance(value, tuple | set | frozenset) and type(value) in (tuple, set, frozenset):
            kind = type(value).__name__
            return {_TAG: kind, "items": [self.encode(one, where) for one in value]}
        if isinstance(value, dict):
            kind = "bunch" if isinstance(value, Bunch) else "dict"
            return {
                _TAG: kind,
                "items": [[self.encode(k, where), self.encode(v, str(k))] for k, v in value.items()],
            }
        if isinstance(value, slice):
            return {
                _TAG: "slice",
                "items": [self.encode(v, where) for v in (value.start, value.stop, value.step)],
            }
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, where)
        if isinstance(value, type) and issubclass(value, np.generic):
            return {_TAG: "dtype", "name": value.__name__}
        return self._object(value, where)

    def _array(self, value: Any, where: str) -> Any:
        if value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
            name = f"a{len(self.parts.arrays)}"
            self.parts.arrays[name] = np.asarray(value)
            return {_TAG: "scalar" if isinstance(value, np.generic) else "array", "name": name}
        if isinstance(value, np.str_):
            return str(value)
        if value.dtype.kind in "UO":
            kind = "texts" if value.dtype.kind == "U" else "objects"
            cells = [self.encode(one, where) for one in value.ravel().tolist()]
            return {_TAG: kind, "shape": list(value.shape), "items": cells}
        raise StateError(f"{where!r} is an array of {value.dtype}; numbers, texts and objects can be saved.")

    def _object(self, value: Any, where: str) -> Any:
        if id(value) in self._seen:
            return {_TAG: "again", "id": self._seen[id(value)][0]}
        number = len(self._seen)
        self._seen[id(value)] = (number, value)  # holds it, so that its id is not given to another
        return {"id": number} | self._new_object(value, where)

    def _new_object(self, value: Any, where: str) -> dict[str, Any]:
        kind = type(value)
        root = kind.__module__.split(".")[0]
        if root == "fusion" and kind.__name__ not in CLASSES:
            return self._operator(value, where)
        if root in _OWN:
            return self._own(value, where)
        if root == "xarray" and hasattr(value, "dims") and not hasattr(value, "data_vars"):
            coords = {str(k): [list(c.dims), c.values] for k, c in value.coords.items()}
            fields = {
                "values": value.values,
                "dims": list(value.dims),
                "coords": coords,
                "attrs": dict(value.attrs),
            }
            return {_TAG: "dataarray", "items": self.encode(fields | {"name": value.name}, where)}
        if root == "pandas" and hasattr(value, "index") and hasattr(value, "to_numpy"):
            whole = value if value.ndim == 2 else value.to_frame()
            cells = [whole.iloc[:, k].to_numpy() for k in range(whole.shape[1])]
            names = value.columns.to_numpy() if value.ndim == 2 else None
            fields = {"cells": cells, "index": value.index.to_numpy(), "columns": names}
            return {_TAG: "frame", "items": self.encode(fields, where)}
        if inspect.isroutine(value) or isinstance(value, type):
            raise StateError(
                f"parameter {where!r} is a function; only registered operators can be saved. Name an operator, or pickle "
                "it yourself."
            )
        if root == "torch":
            raise StateError(
                f"{where!r} is a torch module. Save its state_dict with torch, and the rest without it."
            )
        return self._model(value, where)

    def _operator(self, value: Any, where: str) -> dict[str, Any]:
        from fusion._compose import Chain
        from fusion._compose import Sequence as Several

        if isinstance(value, Chain | Several):
            parts = [*value.pre, value.rule] if isinstance(value, Chain) else list(value.pre)
            return {_TAG: "chain", "items": [self.encode(part, where) for part in parts]}
        if not getattr(value, "name", "") or not hasattr(value, "get_params"):
            raise StateError(f"{where!r} is a {type(value).__name__}, which is no registered operator.")
        return {
            _TAG: "operator",
            "name": value.name,
            "params": self.encode(value.get_params(deep=False), where),
        }

    def _own(self, value: Any, where: str) -> dict[str, Any]:
        name = type(value).__name__
        if name not in CLASSES:
            raise StateError(
                f"{where!r} is a {name}, which no state can hold: it may hold a function, a client or a module. Leave it "
                "out, or pickle it yourself."
            )
        state = dict(vars(value))
        if name == "PrecomputedSpecialist":
            state["model_"] = "model_" in state  # made from the table again
        return {_TAG: "own", "class": name, "items": self.encode(state, where)}

    def _model(self, value: Any, where: str) -> dict[str, Any]:
        dumps = _skops().dumps
        try:
            blob = dumps(value)
        except Exception as error:
            raise StateError(
                f"{where!r} ({type(value).__name__}) cannot be saved without pickle ({error}). Pickle it yourself."
            ) from error
        name = f"m{len(self.parts.models)}"
        self.parts.models[name] = blob
        return {_TAG: "model", "name": name}


class Decoder:
    """Turn JSON back into values.

    Parameters
    ----------
    parts : Parts
        Arrays and models.
    trusted : sequence of str
        Types that models may hold beside those that skops knows.
    """

    def __init__(self, parts: Parts, trusted: Sequence[str]):
        self.parts, self.trusted = parts, list(trusted)
        self._made: dict[int, Any] = {}

    def decode(self, value: Any) -> Any:
        """Decode a value.

        Parameters
        ----------
        value : object
            As the encoder gave it.

        Returns
        -------
        object

        Raises
        ------
        StateError
            If a class is unknown, or a model holds types that are not trusted.
        """
        if isinstance(value, list):
            return [self.decode(one) for one in value]
        if not isinstance(value, dict):
            return value
        kind = value[_TAG]
        if kind == "again":
            return self._made[value["id"]]
        plain = _PLAIN.get(kind)
        if plain is not None:
            return plain([self.decode(one) for one in value["items"]])
        if kind in ("array", "scalar"):
            array = self.parts.arrays[value["name"]]
            return array if kind == "array" else array[()]
        if kind in ("texts", "objects"):
            cells = [self.decode(one) for one in value["items"]]
            array = np.empty(len(cells), dtype=object)
            array[:] = cells
            return (array.astype(str) if kind == "texts" else array).reshape(value["shape"])
        if kind == "float":
            return float(value["value"])
        if kind == "dtype":
            return np.dtype(value["name"]).type
        made = self._object(kind, value)
        self._made[value["id"]] = made
        return made

    def _object(self, kind: str, value: dict[str, Any]) -> Any:
        if kind == "own":
            return self._own(value)
        if kind == "operator":
            return _operator(value["name"], self.decode(value["params"]))
        if kind == "chain":
            from fusion import compose

            return compose(*(self.decode(one) for one in value["items"]))
        if kind == "model":
            return self._model(self.parts.models[value["name"]])
        fields = self.decode(value["items"])
        if kind == "dataarray":
            from xarray import DataArray

            fields["coords"] = {k: (tuple(dims), one) for k, (dims, one) in fields["coords"].items()}
            return DataArray(fields.pop("values"), **fields)
        if kind == "frame":
            import pandas as pd

            columns, cells = fields["columns"], fields["cells"]
            if columns is None:
                return pd.Series(cells[0], index=fields["index"])
            frame = pd.DataFrame(dict(enumerate(cells)), index=fields["index"])
            return frame.set_axis(columns, axis=1)
        raise StateError(f"the state holds a {kind!r}, which this version does not know.")

    def _own(self, value: dict[str, Any]) -> Any:
        cls = own_class(value["class"])
        made = object.__new__(cls)
        self._made[value["id"]] = made
        state = self.decode(value["items"])
        again = value["class"] == "PrecomputedSpecialist" and state.pop("model_")
        made.__dict__.update(state)
        if again:
            made.model_ = made._frozen_model()
        return made

    def _model(self, blob: bytes) -> Any:
        skops = _skops()
        unknown = [one for one in skops.get_untrusted_types(data=blob) if one not in self.trusted]
        if unknown:
            raise StateError(
                f"a model holds types that are not trusted: {unknown}. Pass trusted={unknown!r} if you know who wrote the "
                "file and what they do."
            )
        return skops.loads(blob, trusted=self.trusted)


def _plain_kind(value: Any) -> str:
    return "array" if isinstance(value, np.ndarray) else "dict" if isinstance(value, dict) else "list"


def own_class(name: str) -> Any:
    """Find a class by its registered name.

    Parameters
    ----------
    name : str
        As it stands in a file.

    Returns
    -------
    type

    Raises
    ------
    StateError
        If this version has none of that name.
    """
    try:
        return getattr(import_module(CLASSES[name]), name)
    except (KeyError, ImportError, AttributeError) as error:
        raise StateError(f"the state holds a {name!r}, which this version does not have.") from error


def _operator(name: str, params: dict[str, Any]) -> Any:
    from fusion import get_operator, get_pre_aggregator, operator_names

    make: Callable[..., Any] = (
        get_pre_aggregator if name in operator_names(kind="pre-aggregator") else get_operator
    )
    if name not in (*operator_names(), *operator_names(kind="pre-aggregator")):
        raise StateError(f"the state holds the operator {name!r}, which this version does not have.")
    return make(name, **params)


def _skops() -> Any:
    try:
        from skops import io
    except ImportError as error:
        raise StateError(
            "scikit-learn models are saved by skops. Install it: pip install 'consilience[save]'."
        ) from error
    return io


_PLAIN: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "dict": dict,
    "bunch": lambda items: Bunch(**dict(items)),
    "slice": lambda items: slice(*items),
}

"""One row per mid operator: tests, the table of operators and `get_mid_operator` read it. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from theory._exceptions import PanelError

_RULES = ("median", "trimmed_mean", "geometric_median", "krum")


@dataclass(frozen=True)
class MidRow:
    """What is known of a mid operator.

    Attributes
    ----------
    name : str
        The name for `get_mid_operator`.
    home : str
        Module and class, as in ``"fusion.mid.gated:GatedFusion"``.
    formula : str
        Over present views, in words.
    parameters : str
        Own parameters; V views, w features.
    count : callable
        ``count(width, n_views)`` gives that number for the default construction.
    absent : str
        What an absent view does.
    bad_view : str
        What an arbitrary view does.
    reference : str
        Where it was defined.
    permutation : str
        ``"exact"``: permuting the views changes nothing; ``"modules"``: nothing if their modules go along;
        ``"none"``: the order means something.
    interactions : bool
        Whether a linear head behind it can learn what only views together tell (exclusive or).
    peers : mapping of str to str
        The operator's name in other libraries.
    variants : tuple of mapping
        Parameter sets beside the default that tests run too.

    Examples
    --------
    >>> from fusion.mid import mid_operator_row
    >>> mid_operator_row("gated").count(8, 2)
    416
    """

    name: str
    home: str
    formula: str
    parameters: str
    count: Callable[[int, int], int]
    absent: str
    bad_view: str
    reference: str
    permutation: str = "modules"
    interactions: bool = True
    peers: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Mapping[str, Any], ...] = ()

    @property
    def operator(self) -> type[Any]:
        """The class; loads torch."""
        module, name = self.home.split(":")
        found: type[Any] = getattr(import_module(module), name)
        return found


def _block(w: int) -> int:
    return 4 * w * w + 4 * w + 2 * w * 2 * w + 2 * w + w + 4 * w


def _cross(w: int, v: int) -> int:
    pairs = v * (v - 1)
    joint = max(pairs, 1) * w
    return pairs * (_block(w) + w) + 2 * (joint * joint + joint) + joint * w + w


def _experts(w: int, v: int) -> int:
    joint = v * (w + 1)
    return 4 * joint + 4 + 5 * (joint * w + w + w * w + w)


def _streams(w: int, v: int) -> int:
    return v * (w * w + w) + v * w + w + 2 * _block(w) + 2 * w


_ROWS = (
    MidRow(
        "concat",
        "fusion.mid.concat:ConcatFusion",
        "side by side, and the mask",
        "0",
        lambda w, v: 0,
        "zeros and its mask bit",
        "unprotected",
        "Ngiam 2011",
        interactions=False,
        peers={"MultiBench": "Concat"},
    ),
    MidRow(
        "mean",
        "fusion.mid.concat:MeanFusion",
        "sum of h / k",
        "0",
        lambda w, v: 0,
        "exact",
        "shift at most 2f sqrt(w)/k under LayerNorm",
        "Choi & Lee 2019",
        permutation="exact",
        interactions=False,
        peers={"iMML": "EmbraceNet"},
        variants=({"pool": "sum"}, {"pool": "max"}, {"feature_sampling": True}),
    ),
    MidRow(
        "gated",
        "fusion.mid.gated:GatedFusion",
        "sum of z tanh(W h), z from all views",
        "V(w²+w)+V²w²+Vw",
        lambda w, v: v * (w * w + w) + v * v * w * w + v * w,
        "weight 0",
        "takes all the weight",
        "Arevalo 2017",
        variants=({"gate": "sigmoid"}, {"gate": "scalar"}),
    ),
    MidRow(
        "film",
        "fusion.mid.gated:FiLMFusion",
        "(1+g(c)) h_base + b(c), c the mean of the others",
        "2(w²+w)+w",
        lambda w, v: 2 * (w * w + w) + w,
        "no condition: identity; no base: a learned one",
        "base unprotected",
        "Perez 2018",
        permutation="none",
    ),
    MidRow(
        "low_rank",
        "fusion.mid.bilinear:LowRankFusion",
        "sum over r of products of W_v^r [1; h]",
        "RVw(w+1)+R+3w",
        lambda w, v: 4 * v * w * (w + 1) + 4 + 3 * w,
        "factor 1",
        "multiplies: worst of all",
        "Liu 2018",
        peers={"MultiBench": "LowRankTensorFusion"},
        variants=({"rank": 1},),
    ),
    MidRow(
        "view_transformer",
        "fusion.mid.attention:ViewTransformerFusion",
        "self-attention over views, read at a token of its own",
        "w+Vw+L·block+2w",
        lambda w, v: w + v * w + 2 * _block(w) + 2 * w,
        "masked key",
        "unprotected",
        "Vaswani 2017",
    ),
    MidRow(
        "cross_attention",
        "fusion.mid.attention:CrossAttentionFusion",
        "each view attends to each other",
        "V(V-1) stacks and a residual head",
        _cross,
        "a learned token answers",
        "unprotected",
        "Tsai 2019",
        peers={"MultiBench": "MULTModel"},
    ),
    MidRow(
        "bottleneck",
        "fusion.mid.bottleneck:BottleneckFusion",
        "own transformers that talk through B tokens",
        "VL·block+Bw+2w",
        lambda w, v: 3 * v * _block(w) + 4 * w + 2 * w,
        "masked mean of the tokens",
        "through B tokens only",
        "Nagrani 2021",
        variants=({"fusion_layer": None},),
    ),
    MidRow(
        "mixture_of_experts",
        "fusion.mid.experts:MixtureOfExpertsFusion",
        "top-k of N experts on all views",
        "experts and gate",
        _experts,
        "the mask is an input",
        "unprotected",
        "Fedus 2022",
        variants=({"balance": "cv2", "top_k": 4, "n_shared": 0},),
    ),
    MidRow(
        "product_of_experts",
        "fusion.mid.experts:ProductOfExpertsFusion",
        "sum of l mu / (l_0 + sum of l)",
        "0 (encoders give 2w)",
        lambda w, v: 0,
        "exact",
        "overconfident view wins",
        "Wu & Goodman 2018",
        permutation="exact",
    ),
    MidRow(
        "robust",
        "fusion.mid.robust:RobustFusion",
        "median, trimmed mean, geometric median or Krum",
        "0",
        lambda w, v: 0,
        "exact",
        "bounded while 2f < k",
        "Yin 2018; Pillutla 2022",
        permutation="exact",
        interactions=False,
        variants=tuple({"rule": rule} for rule in ("trimmed_mean", "geometric_median", "krum", "mean")),
    ),
    MidRow(
        "stream_attention",
        "fusion.mid.streams:StreamAttention",
        "attention over all raw tokens",
        "V(w²+w)+Vw+w+L·block+2w",
        _streams,
        "masked tokens",
        "unprotected",
        "Tsai 2019",
        variants=({"attend": "pairwise"},),
    ),
    MidRow(
        "monolith",
        "fusion.mid.monolith:MonolithFusion",
        "two hidden layers on all raw features and the mask",
        "(D+V)w+w+w²+w, D raw features",
        lambda w, v: (v * w + v) * w + w + w * w + w,
        "zeros and its mask bit",
        "unprotected",
        "the arm to compare with",
    ),
)
_BY_NAME = {row.name: row for row in _ROWS}


def mid_operator_names() -> tuple[str, ...]:
    """Name the mid operators.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> mid_operator_names()[:3]
    ('concat', 'mean', 'gated')
    """
    return tuple(_BY_NAME)


def mid_operator_row(name: str) -> MidRow:
    """Give the registry row of a mid operator.

    Parameters
    ----------
    name : str
        One of `mid_operator_names`.

    Returns
    -------
    MidRow

    Raises
    ------
    PanelError
        If there is no such operator.

    Examples
    --------
    >>> mid_operator_row("low_rank").bad_view
    'multiplies: worst of all'
    """
    if name not in _BY_NAME:
        raise PanelError(f"there is no mid operator {name!r}. Use one of {', '.join((*_BY_NAME, *_RULES))}.")
    return _BY_NAME[name]


def get_mid_operator(name: str, width: int, n_views: Any, **params: Any) -> Any:
    """Build a mid operator by its name.

    Parameters
    ----------
    name : str
        One of `mid_operator_names`, or of the rules of `RobustFusion`: median, trimmed_mean, geometric_median, krum.
    width : int
        Features of each embedding.
    n_views : int or sequence of str
        How many views, or their names in order.
    **params : object
        Further parameters of the operator.

    Returns
    -------
    MidOperator

    Raises
    ------
    PanelError
        If there is no such operator or a parameter does not fit.

    Examples
    --------
    >>> get_mid_operator("krum", 4, 5, n_byzantine=1).rule
    'krum'
    """
    if name in _RULES:
        return mid_operator_row("robust").operator(width, n_views, rule=name, **params)
    return mid_operator_row(name).operator(width, n_views, **params)


def mid_operator_table() -> str:
    """Print the mid operators as a markdown table.

    Returns
    -------
    str
        One line per operator.

    Examples
    --------
    >>> mid_operator_table().splitlines()[0]
    '| operator | fused embedding | own parameters | an absent view | a lying view | reference |'
    """
    lines = [
        "| operator | fused embedding | own parameters | an absent view | a lying view | reference |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.name}` | {row.formula} | {row.parameters} | {row.absent} | {row.bad_view} | {row.reference} |"
        for row in _ROWS
    ]
    return "\n".join(lines)

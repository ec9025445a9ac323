"""Panels with a known truth and known correlation, to test claims on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import refuse_correlation
from theory._exceptions import PanelError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SimulatedPanel:
    """A panel of numbers whose error law is known.

    Attributes
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Answers.
    y : ndarray of shape (sample, output)
        Truth.
    errors : ndarray of shape (sample, specialist, output)
        panel - y, before rounding.
    covariance : ndarray of shape (specialist, specialist)
        True covariance of errors of one output.
    bias : ndarray of shape (specialist,)
        True mean errors.
    seed : int or None
        Seed used.
    """

    panel: Floats
    y: Floats
    errors: Floats
    covariance: Floats
    bias: Floats
    seed: int | None


@dataclass(frozen=True, eq=False)
class SimulatedAnswers:
    """Label answers whose accuracy and correlations are known.

    Attributes
    ----------
    answers : ndarray of int64, shape (sample, specialist)
        Label codes.
    y : ndarray of int64, shape (sample,)
        Right codes.
    correct : ndarray of bool, shape (sample, specialist)
        Who was right.
    n_options : ndarray of int64, shape (sample,)
        Options of every sample.
    same_wrong : float
        True probability that two specialists who both err give the same answer.
    rho : float
        True correlation of two specialists' errors.
    seed : int or None
        Seed used.
    """

    answers: Ints
    y: Ints
    correct: NDArray[np.bool_]
    n_options: Ints
    same_wrong: float
    rho: float
    seed: int | None


def correlated_panel(
    n_samples: int,
    n_specialists: int,
    *,
    rho: float = 0.0,
    scale: ArrayLike = 1.0,
    bias: ArrayLike = 0.0,
    truth_scale: float = 1.0,
    n_outputs: int = 1,
    seed: int | None = None,
) -> SimulatedPanel:
    """Draw a panel whose normal errors have one common correlation.

    Parameters
    ----------
    n_samples, n_specialists : int
        Size.
    rho : float
        Correlation of every pair of specialists, at least -1/(M - 1).
    scale : float or array-like of shape (specialist,)
        Standard deviations of errors.
    bias : float or array-like of shape (specialist,)
        Mean errors.
    truth_scale : float
        Standard deviation of the truth.
    n_outputs : int
        Independent outputs.
    seed : int, optional
        Seed of the generator; None draws a new one.

    Returns
    -------
    SimulatedPanel
        The panel, its truth, its errors and their true covariance.

    Raises
    ------
    PanelError
        If sizes are below 1 or no such correlation exists.

    Examples
    --------
    >>> drawn = correlated_panel(4, 3, rho=0.5, seed=0)
    >>> drawn.panel.shape, drawn.y.shape, drawn.covariance[0].tolist()
    ((4, 3, 1), (4, 1), [1.0, 0.5, 0.5])
    """
    _check_sizes(n_samples=n_samples, n_specialists=n_specialists, n_outputs=n_outputs)
    refuse_correlation(rho, n_specialists)
    sd, mean = np.asarray(scale, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    if sd.shape not in ((), (n_specialists,)) or mean.shape not in ((), (n_specialists,)):
        raise PanelError(
            f"scale and bias are one number, or one per specialist ({n_specialists}); got shapes {sd.shape} and "
            f"{mean.shape}."
        )
    sd, mean = np.broadcast_to(sd, (n_specialists,)), np.broadcast_to(mean, (n_specialists,))
    if not (np.isfinite(sd).all() and (sd >= 0).all() and np.isfinite(mean).all()):
        raise PanelError("scale must be finite and >= 0, and bias finite.")
    rng = np.random.default_rng(seed)
    m = n_specialists
    # Symmetric square root of the equicorrelation matrix; it also serves negative correlations.
    low, high = np.sqrt(max(1.0 - rho, 0.0)), np.sqrt(max(1.0 + (m - 1) * rho, 0.0))
    noise = rng.standard_normal((n_samples, m, n_outputs))
    common = noise.mean(axis=1, keepdims=True)
    errors = mean[:, None] + sd[:, None] * (low * noise + (high - low) * common)
    y = truth_scale * rng.standard_normal((n_samples, n_outputs))
    correlation = np.full((m, m), float(rho))
    np.fill_diagonal(correlation, 1.0)
    return SimulatedPanel(
        y[:, None, :] + errors, y, errors, correlation * sd[:, None] * sd[None, :], mean.copy(), seed
    )


def difficulty_panel(
    n_samples: int,
    n_specialists: int,
    *,
    accuracy: float = 0.721,
    rho: float = 0.419,
    distractor: float = 0.636,
    n_options: int = 4,
    seed: int | None = None,
) -> SimulatedAnswers:
    """Draw label answers that are correlated because some samples are hard and some wrong answers tempting.

    A sample is answered rightly with a probability drawn from a beta law of mean ``accuracy``;
    given it, specialists are independent, so the correlation of their errors is ``rho``. Whoever
    errs takes the sample's one distractor with probability ``distractor``, else any wrong answer; so
    two who both err agree with probability 1/(K - 1) + (1 - 1/(K - 1)) distractor^2. The defaults match
    the mean accuracy and correlations published for 71 language models.

    Parameters
    ----------
    n_samples, n_specialists : int
        Size.
    accuracy : float
        Mean probability of being right, in (0, 1).
    rho : float
        Correlation of errors, in [0, 1).
    distractor : float
        Probability of taking the distractor when wrong, in [0, 1].
    n_options : int
        K >= 2.
    seed : int, optional
        Seed of the generator; None draws a new one.

    Returns
    -------
    SimulatedAnswers
        Answers, truth and the true correlations.

    Raises
    ------
    PanelError
        If a parameter lies outside its range.

    References
    ----------
    Kim, Garg, Peng and Garg, *Correlated errors in large language models*, 2025.

    Examples
    --------
    >>> drawn = difficulty_panel(5, 3, seed=0)
    >>> drawn.answers.shape, round(drawn.same_wrong, 3)
    ((5, 3), 0.603)
    """
    _check_sizes(n_samples=n_samples, n_specialists=n_specialists)
    if not 0 < accuracy < 1 or not 0 <= rho < 1 or not 0 <= distractor <= 1:
        raise PanelError(
            f"needed: accuracy in (0, 1), rho in [0, 1), distractor in [0, 1]; got {accuracy}, {rho}, "
            f"{distractor}."
        )
    if n_options < 2:
        raise PanelError(f"n_options must be at least 2; got {n_options}. With one option nobody can err.")
    rng = np.random.default_rng(seed)
    shape = (n_samples, n_specialists)
    if rho > 0:
        size = (1.0 - rho) / rho
        easy = rng.beta(accuracy * size, (1.0 - accuracy) * size, n_samples)
    else:
        easy = np.full(n_samples, accuracy)
    y = rng.integers(0, n_options, n_samples)
    correct = rng.random(shape) < easy[:, None]
    # Wrong codes are offsets 1 .. K-1 from the right one.
    tempting = rng.integers(1, n_options, n_samples)
    other = rng.integers(1, n_options, shape)
    offset = np.where(rng.random(shape) < distractor, tempting[:, None], other)
    answers = np.where(correct, y[:, None], (y[:, None] + offset) % n_options)
    chance = 1.0 / (n_options - 1)
    return SimulatedAnswers(
        answers.astype(np.int64),
        y.astype(np.int64),
        correct,
        np.full(n_samples, n_options, dtype=np.int64),
        chance + (1.0 - chance) * distractor**2,
        float(rho),
        seed,
    )


@dataclass(frozen=True, eq=False)
class PolyaExchange:
    """Simulated talk in which every word heard becomes evidence.

    Attributes
    ----------
    belief : ndarray of shape (rounds + 1, agent)
        Mean over runs of each agent's belief in option 0, the truth.
    drift : ndarray of shape (rounds + 1,)
        Change of the agents' mean belief since the start.
    standard_error : ndarray of shape (rounds + 1,)
        Of the drift.
    """

    belief: Floats
    drift: Floats
    standard_error: Floats


def polya_exchange(
    alpha: ArrayLike,
    weights: ArrayLike,
    *,
    rounds: int = 6,
    n_runs: int = 10_000,
    evidence: float = 1.0,
    seed: int | None = None,
) -> PolyaExchange:
    """Let agents with Dirichlet beliefs speak, and count what they hear as evidence.

    In each round every agent draws an answer from its belief; each then adds ``w_ij`` to the concentration
    of the answer of every agent j that it hears (``evidence`` times that where the answer is the truth).

    Parameters
    ----------
    alpha : array-like of shape (output,) or (agent, output)
        Positive concentrations; option 0 is the truth. One row serves all agents.
    weights : array-like of shape (agent, agent)
        How much each agent (row) counts the word of each other; not negative.
    rounds : int
        Rounds of talk.
    n_runs : int
        Independent runs.
    evidence : float
        What a true word counts relative to a false one; 1 is talk without evidence.
    seed : int, optional
        Seed of the generator; None draws a new one.

    Returns
    -------
    PolyaExchange

    Raises
    ------
    PanelError
        If concentrations are not positive, weights are negative or sizes do not fit.

    Notes
    -----
    With evidence 1, equal sums of alpha, and every in- and out-degree of the weights equal, the mean belief
    is a martingale: talk moves it nowhere. Otherwise it drifts toward those who are heard more or are surer.

    References
    ----------
    Choi, Zhu and Li, *Debate or vote: which yields better decisions in multi-agent large language models?*, 2025,
    theorem 2.

    Examples
    --------
    >>> import numpy as np
    >>> told = polya_exchange([2.0, 1.0, 1.0], np.ones((5, 5)) - np.eye(5), n_runs=4000, seed=0)
    >>> bool(abs(told.drift[-1]) < 3 * told.standard_error[-1])
    True
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or w.shape[0] != w.shape[1] or not np.isfinite(w).all() or (w < 0.0).any():
        raise PanelError(f"weights must be a square table of finite numbers >= 0; got shape {w.shape}.")
    start = np.asarray(alpha, dtype=np.float64)
    m = len(w)
    if start.ndim not in (1, 2) or not np.isfinite(start).all() or (start <= 0.0).any():
        raise PanelError("alpha must hold positive concentrations, (output,) or (agent, output).")
    if start.ndim == 2 and len(start) != m:
        raise PanelError(
            f"alpha has {len(start)} agents, weights {m}. Give one row per agent, or one for all."
        )
    _check_sizes(rounds=rounds, n_runs=n_runs)
    if not 0.0 <= evidence < np.inf:
        raise PanelError(f"evidence is a finite number >= 0; got {evidence!r}.")
    k = start.shape[-1]
    rng = np.random.default_rng(seed)
    counts = np.broadcast_to(start, (n_runs, m, k)).copy()
    worth = np.ones(k)
    worth[0] = evidence
    beliefs, means = [], []
    for turn in range(rounds + 1):
        p = counts / counts.sum(axis=2, keepdims=True)
        beliefs.append(p[:, :, 0].mean(axis=0))
        means.append(p[:, :, 0].mean(axis=1))
        if turn < rounds:
            said = (rng.random((n_runs, m, 1)) > p.cumsum(axis=2)[:, :, :-1]).sum(axis=2)
            counts += w @ ((said[:, :, None] == np.arange(k)) * worth)
    moved = np.stack(means) - means[0]
    error = moved.std(axis=1, ddof=1) / np.sqrt(n_runs) if n_runs > 1 else np.full(rounds + 1, np.nan)
    return PolyaExchange(np.stack(beliefs), moved.mean(axis=1), error)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or size < 1:
            raise PanelError(f"{name} must be a whole number >= 1; got {size!r}.")

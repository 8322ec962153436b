"""How well a backbone's features suit a data set, before anything is trained. numpy and
scikit-learn.

Each score takes features `(n, d)` of `n` examples, as the frozen backbone gives them, and their
classes `(n,)`, integers from 0. More is better. What a score is worth on a data set, the report of
`graft bench` says: its rank correlation with the accuracies that were reached.
"""

from collections.abc import Mapping

import numpy as np

from graft.zoo.heads.neighbours import nearest_others

__all__ = ["NEIGHBOURS", "SCORES", "h_score", "knn_accuracy", "leep", "log_me", "scores"]

NEIGHBOURS = 5
"""Of the k-NN accuracy."""
TEMPERATURE = 0.07
ROUNDS, TOLERANCE, TINY = 100, 1e-4, 1e-10
"""Of the fixed point in `log_me`: most steps, the relative change at which it stands, and what
keeps from dividing by 0.
"""

SCORES: Mapping[str, str] = {
    "log_me": "LogME: log evidence of a linear model (You et al. 2021, arXiv:2102.11005)",
    "h_score": (
        "H-score: spread of class means over spread of features (Bao et al. 2019; shrunk as in "
        "arXiv:2110.06893)"
    ),
    "knn_accuracy": (
        f"share of examples whose {NEIGHBOURS} nearest others (cosine) vote for their class"
    ),
    "leep": (
        "LEEP: log likelihood through the classes of the source (Nguyen et al. 2020, "
        "arXiv:2002.12462)"
    ),
}


def scores(
    features: np.ndarray, classes: np.ndarray, source: np.ndarray | None = None
) -> dict[str, float | None]:
    """All of `SCORES`; `leep` only where the backbone's own head gave probabilities `source`, `(n,
    its classes)`.
    """
    return {
        "log_me": log_me(features, classes),
        "h_score": h_score(features, classes),
        "knn_accuracy": knn_accuracy(features, classes),
        "leep": None if source is None else leep(source, classes),
    }


def log_me(features: np.ndarray, classes: np.ndarray) -> float:
    """The largest log evidence for an example of a Bayesian linear model from features to one class
    against the rest, averaged over the classes (You et al. 2021, arXiv:2102.11005).
    """
    f = np.asarray(features, np.float64)
    n, d = f.shape
    u, s, _ = np.linalg.svd(f, full_matrices=False)
    spectrum = s**2

    def evidence(y: np.ndarray) -> float:
        projected = (u.T @ y) ** 2
        beyond = max(
            0.0, float(y @ y - projected.sum())
        )  # of y, what no linear function of the features reaches
        prior = noise = 1.0
        for _ in range(ROUNDS):
            ratio = prior / noise
            used = float(
                np.sum(spectrum / (spectrum + ratio))
            )  # the effective number of parameters
            size = float(np.sum(spectrum * projected / (spectrum + ratio) ** 2))
            residual = float(np.sum(projected / (1 + spectrum / ratio) ** 2)) + beyond
            prior, noise = used / (size + TINY), (n - used) / (residual + TINY)
            if abs(prior / noise - ratio) <= TOLERANCE * ratio:
                break
        determinant = float(np.sum(np.log(prior + noise * spectrum))) + (d - len(s)) * np.log(prior)
        fit = noise * residual + prior * size
        return (
            d * np.log(prior) + n * np.log(noise) - determinant - fit - n * np.log(2 * np.pi)
        ) / (2 * n)

    return float(np.mean([evidence(np.float64(classes == c)) for c in np.unique(classes)]))


def h_score(features: np.ndarray, classes: np.ndarray) -> float:
    """The trace of the covariance of the class means over that of the features (Bao et al. 2019,
    ICIP).

    Both are shrunk by Ledoit and Wolf's factor, because a few hundred examples do not determine a
    covariance of a thousand features (Ibrahim et al. 2021, arXiv:2110.06893).
    """
    from sklearn.covariance import ledoit_wolf

    centred = np.asarray(features, np.float64)
    centred = centred - centred.mean(0)
    covariance, shrinkage = ledoit_wolf(centred, assume_centered=True)
    means = np.zeros_like(centred)
    for c in np.unique(classes):
        means[classes == c] = centred[classes == c].mean(0)
    between = means.T @ means / len(means)
    return float((1 - shrinkage) * np.trace(np.linalg.solve(covariance, between)))


def knn_accuracy(features: np.ndarray, classes: np.ndarray) -> float:
    """The share of examples, 0 to 1, for whose class the `NEIGHBOURS` nearest others vote, by
    cosine.

    Near ones count more, by exp(similarity / 0.07), which also settles ties (Wu et al. 2018,
    arXiv:1805.01978).
    """
    rows = np.asarray(features, np.float32)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), TINY)
    nearest = nearest_others(rows, NEIGHBOURS)
    votes = np.zeros((len(rows), int(classes.max()) + 1))
    for others in nearest.T:  # one neighbour of each at a time
        weights = np.exp((np.einsum("nd,nd->n", rows, rows[others]) - 1) / TEMPERATURE)
        votes[np.arange(len(rows)), classes[others]] += weights
    return float(np.mean(votes.argmax(-1) == classes))


def leep(source: np.ndarray, classes: np.ndarray) -> float:
    """The mean log likelihood of the classes, guessed through what the backbone's own head says
    (Nguyen et al. 2020, arXiv:2002.12462). `source` are probabilities `(n, classes of the
    source)`.
    """
    source = np.asarray(source, np.float64)
    joint = np.stack([source[classes == c].sum(0) for c in range(int(classes.max()) + 1)]) / len(
        source
    )
    conditional = joint / np.maximum(joint.sum(0), TINY)
    likelihood = np.einsum("nz,nz->n", source, conditional[classes])
    return float(np.mean(np.log(np.maximum(likelihood, TINY))))

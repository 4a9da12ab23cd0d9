"""Density-based clusters from a matrix of losses: DBSCAN, and how its radius is chosen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from timo.errors import warn

NOISE = -1


class Reach(NamedTuple):
    """The radius from which on a point is a core point (n,), and from which on two are linked (spanning tree)."""

    cores: np.ndarray
    links: coo_array


def reach_of(loss: np.ndarray, min_samples: int) -> Reach:
    """Find when points become core points and when they are linked, for all radii of DBSCAN at once.

    A point is a core point from its loss to the min_samples-th on, itself counted. Two core points are in one cluster
    at a radius exactly if no link of the minimum spanning tree of the mutual reachability between them is longer
    (Campello, Moulavi & Sander 2013).
    """
    cores = np.partition(loss, min_samples - 1, axis=1)[:, min_samples - 1]
    mutual = np.maximum(np.maximum(loss, cores[:, None]), cores)
    # A length of exactly 0 would count as no link.
    np.maximum(mutual, np.finfo(float).tiny, out=mutual)
    return Reach(cores, minimum_spanning_tree(np.triu(mutual, 1)).tocoo())


def dbscan(
    loss: np.ndarray, eps: float, min_samples: int, reach: Reach | None = None
) -> np.ndarray:
    """Cluster a symmetric matrix of losses by DBSCAN: labels (n,), -1 is noise.

    As Ester et al. (1996), with one difference: a point at the border of several clusters goes to that of its nearest
    core point, not to the first. Labels are ordered by size, 0 the largest.
    """
    cores, links = reach_of(loss, min_samples) if reach is None else reach
    labels = np.full(len(loss), NOISE)
    core, rest = np.flatnonzero(cores <= eps), np.flatnonzero(cores > eps)
    if not len(core):
        return labels
    short = links.data <= eps
    graph = coo_array((links.data[short], (links.row[short], links.col[short])), shape=links.shape)
    labels[core] = connected_components(graph, directed=False)[1][core]
    to_core = loss[np.ix_(rest, core)]
    labels[rest] = np.where(to_core.min(axis=1) <= eps, labels[core[to_core.argmin(axis=1)]], NOISE)
    return by_size(labels)


def by_size(labels: np.ndarray) -> np.ndarray:
    """Renumber labels so that 0 is the largest cluster; noise stays."""
    names, first, counts = np.unique(labels[labels != NOISE], return_index=True, return_counts=True)
    order = names[np.lexsort((first, -counts))]
    rank = np.full(labels.max(initial=0) + 2, NOISE)
    rank[order] = np.arange(len(order))
    return rank[labels]


def join_noise(loss: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Give each noise point to the cluster of the lowest mean loss."""
    names = np.unique(labels[labels != NOISE])
    if not len(names):
        return labels
    means = np.stack([loss[:, labels == name].mean(axis=1) for name in names], axis=1)
    return np.where(labels == NOISE, names[means.argmin(axis=1)], labels)


def choose_labels(loss: np.ndarray, min_samples: int, n_regions: int | None = None) -> np.ndarray:
    """Return the labels of the best radius among 60 quantiles of the core losses.

    With `n_regions`, of the radii that give that many clusters the one whose smallest cluster is largest; if none does,
    of the nearest number, with a warning. Without, the one with the largest mean silhouette (Rousseeuw 1987), in which
    noise counts 0.
    """
    reach = reach_of(loss, min_samples)
    # The set of core points changes at the core losses only.
    radii = np.unique(np.quantile(reach.cores, np.linspace(0.02, 1, 60)))
    found = [dbscan(loss, float(eps), min_samples, reach) for eps in radii]
    if n_regions is None:
        return max(found, key=lambda labels: silhouette(loss, labels))

    def fit(labels: np.ndarray) -> tuple[int, int]:
        sizes = np.bincount(labels[labels != NOISE], minlength=1)
        return abs(int(labels.max()) + 1 - n_regions), -int(sizes.min())

    best = min(found, key=fit)
    if best.max() + 1 != n_regions:
        warn(
            f"No radius gives {n_regions} regions with min_samples = {min_samples}; the nearest is {best.max() + 1}. "
            "Fewer min_samples give more and smaller regions.",
            RuntimeWarning,
        )
    return best


def silhouette(loss: np.ndarray, labels: np.ndarray) -> float:
    """Average (b - a) / max(a, b) with a, b the mean losses to the own and to the next cluster; noise counts 0.

    The point itself is counted in its own cluster. Fewer than two clusters: -1.
    """
    count = int(labels.max()) + 1
    if count < 2:  # there is no next cluster
        return -1.0
    inside = np.flatnonzero(labels != NOISE)
    members = np.eye(count)[labels[inside]]
    means = loss[np.ix_(inside, inside)] @ members / members.sum(axis=0)
    own = means[members.astype(bool)]
    other = np.where(members, np.inf, means).min(axis=1)
    larger = np.maximum(own, other)
    return float(((other - own) / np.where(larger > 0, larger, 1)).sum() / len(labels))

"""The stratified estimators of accuracy and area; "eq." is an equation of the paper that `timo.mapping.area` names."""

import numpy as np


class Errors:
    """The estimators; (s,) are strata, (k,) are classes, NaN where a quantity is not defined.

    Parameters
    ----------
    counts : ndarray (s, k)
        Sample units.
    weights : ndarray (s,)
        Shares of the area.
    place : ndarray (s,)
        Which class each stratum is called.
    unseen : ndarray (s,)
        Share of the pixels of each stratum that were not looked at (Cochran 1977, Sampling Techniques, eq. 5.6): 1 with
        many pixels, 0 in a census, which leaves nothing to chance.
    """

    def __init__(
        self, counts: np.ndarray, weights: np.ndarray, place: np.ndarray, unseen: np.ndarray
    ) -> None:
        units = counts.sum(axis=1, keepdims=True)
        share = counts / units
        # A single unit is a census here: its numerator is 0.
        spread = unseen[:, None] * share * (1 - share) / np.maximum(units - 1, 1)
        self.weights, self.place = weights, place
        self.p = weights[:, None] * share  # eq. 4
        # Variance of each cell of the matrix. Those of the estimators below are sums over it.
        self.v = weights[:, None] ** 2 * spread
        # Of the cells where map and reference agree, by class.
        self.p_right, self.v_right = self._agreement(self.p), self._agreement(self.v)

    def _agreement(self, matrix: np.ndarray) -> np.ndarray:
        right = np.zeros(matrix.shape[1])
        right[self.place] = matrix[np.arange(len(self.place)), self.place]
        return right

    def overall(self) -> tuple[float, float]:
        """Return overall accuracy (eq. 1) and its standard error (eq. 5)."""
        return float(self.p_right.sum()), float(np.sqrt(self.v_right.sum()))

    def users(self) -> tuple[np.ndarray, np.ndarray]:
        """Return user's accuracy (k,) (eq. 2) and its standard error (eq. 6)."""
        weights = np.full(self.p.shape[1], np.nan)
        weights[self.place] = self.weights
        return self.p_right / weights, np.sqrt(self.v_right) / weights

    def producers(self) -> tuple[np.ndarray, np.ndarray]:
        """Return producer's accuracy (k,) (eq. 3) and its standard error (eq. 7)."""
        area = np.full(self.p.shape[1], np.nan)
        area[self.place] = self.p.sum(axis=0)[self.place]
        area[area == 0] = np.nan
        accuracy = self.p_right / area
        elsewhere = self.v.sum(axis=0) - self.v_right
        variance = (1 - accuracy) ** 2 * self.v_right + accuracy**2 * elsewhere
        return accuracy, np.sqrt(variance) / area

    def areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return shares of the area (k,) (eqs. 8, 9) and its standard error (eq. 10)."""
        return self.p.sum(axis=0), np.sqrt(self.v.sum(axis=0))

"""Regions that differ in how they behave: MC-GTA (Wang et al. 2024), on maps, points and single series."""

from timo.geostat.clustering.gaussians import local_gaussians
from timo.geostat.clustering.regions import find_regions
from timo.geostat.clustering.wasserstein import gaussian_w2

__all__ = ["find_regions", "gaussian_w2", "local_gaussians"]

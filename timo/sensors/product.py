"""The words in which a sensor is described: bands, quality classes, and where its product is served."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from timo.errors import TimoError

# Codes of the radar polarisations, which have no wavelength that tells them apart: they stand where an optical band has
# its wavelength, and so are none of its values.
POLARISATIONS: dict[str, float] = {"VV": 0.0, "VH": -1.0, "HH": -2.0, "HV": -3.0}

Kind = Literal["reflectance", "backscatter", "index", "other"]
# What values of a kind can be at all. Reflectance: over-corrected shadow and water reach below 0, sun glint, snow on
# slopes and clouds beyond 1; backscatter in dB: the noise floor, and corner reflectors in cities; an index: noise.
BOUNDS: dict[str, tuple[float, float]] = {
    "reflectance": (-0.3, 2.0),
    "backscatter": (-70.0, 40.0),
    "index": (-1.1, 1.1),
    "other": (-math.inf, math.inf),
}


@dataclass(frozen=True)
class Band:
    """One spectral band.

    Parameters
    ----------
    name : str
        The name that the cube's `band` coordinate uses, e.g. "B8A".
    common_name : str
        The name in the STAC electro-optical extension, e.g. "nir08"; empty where it has none.
    wavelength_um : float
        Central wavelength in micrometres; a radar band has the code of its polarisation instead (`POLARISATIONS`), and
        NaN stands for a band that has none (an index).
    gsd_m : float
        Ground sample distance in metres.
    mean, std : float
        What the models subtract and divide by, in the unit of the cube (reflectance 0..1, backscatter in dB).
    nodata : int, optional
        The digital number of a pixel without data, where it is not the sensor's.
    kind : {"", "reflectance", "backscatter", "index", "other"}
        Kind of its values, where it is not the sensor's.
    aliases : tuple of str
        Other names of the band in files of the product.
    """

    name: str
    common_name: str
    wavelength_um: float
    gsd_m: float
    mean: float
    std: float
    nodata: int | None = None
    kind: Kind | Literal[""] = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class QualityClass:
    """One thing that a product's quality layer says of a pixel.

    As the flags of the CF conventions (section 3.5): `value` is a flag value, `bits` a flag mask.

    Parameters
    ----------
    name : str
        What it says, e.g. "cloud shadow".
    value : int
        The code of the pixels that it holds for.
    bits : int, optional
        Which bits of the layer hold the code. None: the layer is a plain classification, all of it is the code.
    """

    name: str
    value: int
    bits: int | None = None

    def of(self, quality: Any) -> Any:
        """Where it holds, for an integer or an array of integers (numpy, xarray, dask)."""
        return (quality if self.bits is None else quality & self.bits) == self.value


@dataclass(frozen=True)
class CloudScore:
    """A second opinion on clouds: a collection with one image for each of the product's, and a score in it.

    Parameters
    ----------
    id : str
        The collection; its images have the `system:index` of those that they judge.
    band : str
        Its score, from 0 (hidden) to 1 (clear).
    threshold : float
        From which score on a pixel counts as clear unless the user says otherwise.
    replaces : tuple of int
        Positions in `Sensor.quality` of the classes in whose place it stands: clouds, their shadows and their fringes.
    """

    id: str
    band: str
    threshold: float
    replaces: tuple[int, ...] = ()


@dataclass(frozen=True)
class Collection:
    """Where one provider serves the product, and how it differs there from the `Sensor`.

    Parameters
    ----------
    provider : str
        "earthengine", or a preset of `timo.sources.stac`: "planetary-computer", "earth-search".
    ids : tuple of str
        Its collections; where there are several (two Landsats), all of them are read.
    names : mapping
        Band of the cube, or `Sensor.mask_name` -> what the provider calls it (Earth Engine band, STAC asset); what is
        missing has the sensor's name.
    cloud_cover : str
        Property of an image that holds its cloud cover in percent; empty if there is none.
    where : mapping
        Property -> the value that an image must have; a tuple: one of these.
    orbit : str
        Property that says "ascending" or "descending" (in any case); empty if none does.
    band_list : str
        Property that lists the bands that an image has, by their names in the cube, where images differ in that (the
        polarisations of radar); empty if all have all.
    scale, offset : float, optional
        Physical value = digital number x scale + offset, where it is not the sensor's.
    nodata : float, optional
        The number of a pixel without data, where it is not the sensor's.
    linear : bool
        The numbers are linear power, and not decibels.
    shift : callable, optional
        Of an image's properties: what must be added to its digital numbers to make them those of the sensor.
    licence : str
        Where the terms of use are, if the provider's are not the sensor's.
    attribution : str
        What must stand where the data are shown, if the provider's is not the sensor's.
    cloud_score : CloudScore, optional
        What the provider has that judges clouds better than the quality layer.
    """

    provider: str
    ids: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    cloud_cover: str = ""
    where: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    orbit: str = ""
    band_list: str = ""
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    linear: bool = False
    shift: Callable[[Mapping[str, Any]], float] | None = None
    licence: str = ""
    attribution: str = ""
    cloud_score: CloudScore | None = None

    def name(self, band: str) -> str:
        """What the provider calls a band of the cube or the quality layer."""
        return self.names.get(band, band)


@dataclass(frozen=True)
class Sensor:
    """An instrument and the product of it that timo reads.

    Parameters
    ----------
    name : str
        The name that `cube.attrs["sensor"]` holds, e.g. "sentinel-2".
    product : str
        The product whose values are meant, in words.
    bands : tuple of Band
        In order of wavelength; radar in the order VV, VH, HH, HV.
    scale, offset : float
        Physical value = digital number x scale + offset.
    units : str
        Unit of the physical values.
    nodata : int, optional
        The digital number of a pixel without data.
    mask_name : str
        The product's own quality layer; empty if it has none.
    quality : tuple of QualityClass
        What the layer can say of a pixel. In a bit mask several can hold for one pixel.
    masked : tuple of int
        Positions in `quality` of what is no valid observation of the ground unless the user says otherwise. In a plain
        classification (Sentinel-2) the position is the code.
    fringed : tuple of int
        Those of them (clouds and their shadows) whose surroundings are doubtful as well.
    fringe_m : float
        How far around them, in metres, unless the user says otherwise.
    period_days : int
        How many days one image is made of; it is dated with the first, in UTC. 0: images are of one overpass.
    usual : tuple of str
        The bands that are opened where none are asked for; empty: all.
    collections : tuple of Collection
        Where the product is served.
    attribution : str
        What must stand where the data are shown; `{years}` stands for the years.
    licence : str
        Where the terms of use are.
    kind : {"reflectance", "backscatter", "index", "other"}
        Kind of the physical values, by which they are checked (`timo.cube.check_values`).
    bounds : (float, float), optional
        Plausible least and greatest physical value, where they are not those of the kind (`BOUNDS`).
    level : str
        Processing level, as its producer writes it.
    satellites : tuple of str
        Those whose images are of this product, as `timo.sensors.identify` names them; empty for a user's own sensor.
    """

    name: str
    product: str
    bands: tuple[Band, ...]
    scale: float
    units: str
    mask_name: str = ""
    quality: tuple[QualityClass, ...] = ()
    masked: tuple[int, ...] = ()
    fringed: tuple[int, ...] = ()
    offset: float = 0.0
    nodata: int | None = None
    fringe_m: float = 0.0
    period_days: int = 0
    usual: tuple[str, ...] = ()
    collections: tuple[Collection, ...] = ()
    attribution: str = ""
    licence: str = ""
    kind: Kind = "reflectance"
    bounds: tuple[float, float] | None = None
    level: str = ""
    satellites: tuple[str, ...] = ()

    @property
    def default_bands(self) -> tuple[str, ...]:
        """The bands that are opened where none are asked for."""
        return self.usual or self.band_names

    def wavelengths(self, names: Iterable[str]) -> tuple[float, ...]:
        """Central wavelengths of bands in micrometres, or the codes of their polarisations.

        Raises
        ------
        TimoError
            If the sensor has no such band, or one has no wavelength (an index has none).
        """
        bands = self.select(names)
        if without := [band.name for band in bands if math.isnan(band.wavelength_um)]:
            raise TimoError(
                f"{self.name} has no wavelength of {' and '.join(without)}, and a model with "
                'stem="wavelength" tells bands apart by it: leave the band out, or make the model with stem="plain"'
            )
        return tuple(band.wavelength_um for band in bands)

    def kind_of(self, band: str) -> Kind:
        """Return the kind of a band's values."""
        return self.band(band).kind or self.kind

    def bounds_of(self, band: str) -> tuple[float, float]:
        """Return the least and the greatest physical value that a band can plausibly have."""
        own = self.bounds if self.kind_of(band) == self.kind else None
        return own or BOUNDS[self.kind_of(band)]

    def nodata_of(self, band: str, collection: Collection | None = None) -> float | None:
        """The digital number of a pixel of a band without data, as a provider serves it; None if there is none."""
        if collection is not None and collection.nodata is not None:
            return collection.nodata
        own = self.band(band).nodata
        return self.nodata if own is None else own

    def credit(self, years: str, collection: Collection | None = None) -> str:
        """What must stand where data of these years ("2019-2021") are shown, as a provider serves them."""
        text = (collection and collection.attribution) or self.attribution
        return text.format(years=years)

    def collection(self, provider: str) -> Collection:
        """Where a provider serves the product.

        Raises
        ------
        TimoError
            If timo does not know that it does.
        """
        for collection in self.collections:
            if collection.provider == provider:
                return collection
        known = ", ".join(c.provider for c in self.collections) or "none"
        raise TimoError(
            f"{self.name} is not served by {provider!r}, as far as timo knows. It is by: {known}."
        )

    @property
    def band_names(self) -> tuple[str, ...]:
        """Names of the bands, in order of wavelength."""
        return tuple(band.name for band in self.bands)

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Names of what the quality layer can say, by position."""
        return tuple(kind.name for kind in self.quality)

    def physical(self, numbers: Any) -> Any:
        """Physical values of digital numbers (a float or an array of floats); `nodata` is left to the caller."""
        return numbers * self.scale + self.offset

    def flagged(self, quality: Any, classes: Iterable[int] | None = None) -> Any:
        """Where the quality layer says any of these things of a pixel.

        Parameters
        ----------
        quality : int or array of integers (numpy, xarray, dask)
            The layer `mask_name`.
        classes : iterable of int, optional
            Positions in `quality`; by default `masked`.

        Returns
        -------
        bool or array of bool
            In the shape of `quality`.

        Raises
        ------
        TimoError
            If there is no such class.
        """
        positions = self.masked if classes is None else tuple(classes)
        if wrong := [i for i in positions if i not in range(len(self.quality))]:
            listed = ", ".join(f"{i} {name}" for i, name in enumerate(self.mask_classes))
            raise TimoError(
                f"{self.name} has no quality class {wrong[0]!r}. It has: {listed or 'none'}."
            )
        # Nothing is false everywhere, in whatever kind of array the layer is.
        anything = quality != quality  # noqa: PLR0124
        for position in positions:
            anything = anything | self.quality[position].of(quality)
        return anything

    def band(self, name: str) -> Band:
        """Return the band called `name`.

        Raises
        ------
        TimoError
            If the sensor has no such band.
        """
        for band in self.bands:
            if band.name == name:
                return band
        raise TimoError(
            f"{self.name} has no band {name!r}. Its bands are: {', '.join(self.band_names)}."
        )

    def select(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Return the bands called `names`, in that order (see `band`)."""
        return tuple(self.band(str(name)) for name in names)

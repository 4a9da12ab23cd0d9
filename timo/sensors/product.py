"""How a sensor is described: bands, quality classes, plausible values, and where its product is served."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from timo.checks import (
    AnyNumber,
    NotNegative,
    Positive,
    Range,
    checked,
    described,
    is_number,
    plain,
)
from timo.errors import TimoError

# Codes of the radar polarisations, which share one wavelength: they stand in its place, and are <= 0 so that none is
# taken for a wavelength.
POLARISATIONS: dict[str, float] = {"VV": 0.0, "VH": -1.0, "HH": -2.0, "HV": -3.0}

Kind = Literal["reflectance", "backscatter", "index", "other"]
_Position = Annotated[int, Range(least=0)]
_Bits = Annotated[int, Range(least=0, most=2**32 - 1)]
# What values of a kind can be at all. Reflectance: over-corrected shadow and water reach below 0, sun glint, snow on
# slopes and clouds beyond 1; backscatter in dB: the noise floor, and corner reflectors in cities; an index: noise, and
# EVI over clouds.
BOUNDS: dict[str, tuple[float, float]] = {
    "reflectance": (-0.3, 2.0),
    "backscatter": (-70.0, 40.0),
    "index": (-1.5, 1.5),
    "other": (-math.inf, math.inf),
}

UNITS = {
    "reflectance": "surface reflectance, 0..1",
    "backscatter": "backscatter, dB",
    "index": "index, -1..1",
    "other": "as its producer gives it",
}
# Common name -> wavelength in micrometres, mean and standard deviation of surface reflectance over vegetated land,
# between closed forest and bare soil, as round numbers. They are constants, and not statistics of one cube:
# weights trained in one place mean the same in another, and nothing of a held-out block reaches the model by them.
NORMALISATION: dict[str, tuple[float, float, float]] = {
    "coastal": (0.443, 0.04, 0.03),
    "blue": (0.492, 0.05, 0.03),
    "green": (0.560, 0.07, 0.03),
    "red": (0.665, 0.07, 0.04),
    "rededge071": (0.704, 0.11, 0.04),
    "rededge075": (0.741, 0.20, 0.07),
    "rededge078": (0.783, 0.25, 0.09),
    "nir": (0.833, 0.27, 0.10),
    "nir08": (0.865, 0.28, 0.10),
    "nir09": (0.945, 0.28, 0.10),
    "swir16": (1.614, 0.20, 0.08),
    "swir22": (2.202, 0.12, 0.07),
}
# The same for backscatter in dB, by code: cross-polarised HV is VH (reciprocity), and HH is taken as VV.
_RADAR = {0.0: (-11.0, 4.0), -1.0: (-18.0, 5.0), -2.0: (-11.0, 4.0), -3.0: (-18.0, 5.0)}


def normalisation(wavelength_um: float, common_name: str = "") -> tuple[float, float]:
    """Return mean and standard deviation of a reflectance, of its common name or interpolated between wavelengths."""
    if common_name in NORMALISATION:
        return NORMALISATION[common_name][1:]
    known = sorted(NORMALISATION.values())
    if not known[0][0] < wavelength_um < known[-1][0]:
        nearest = known[0] if wavelength_um <= known[0][0] else known[-1]
        return nearest[1:]
    right = next(i for i, row in enumerate(known) if row[0] >= wavelength_um)
    low, high = known[right - 1], known[right]
    share = (wavelength_um - low[0]) / (high[0] - low[0])
    mean, std = (round(low[i] + share * (high[i] - low[i]), 4) for i in (1, 2))
    return mean, std


@checked
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
    mean, std : float, optional
        What the models subtract and divide by, in the unit of the cube (reflectance 0..1, backscatter in dB). By
        default those of the common name or, interpolated, of the wavelength (`normalisation`).
    nodata : float, optional
        The digital number of a pixel without data, where it is not the sensor's.
    kind : {"", "reflectance", "backscatter", "index", "other"}
        Kind of its values, where it is not the sensor's.
    aliases : tuple of str
        Other names of the band in files of the product.
    """

    name: str
    common_name: str
    wavelength_um: AnyNumber
    gsd_m: Positive
    mean: AnyNumber = math.nan
    std: AnyNumber = math.nan
    nodata: float | None = None
    kind: Kind | Literal[""] = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        usual = _RADAR.get(self.wavelength_um)
        if usual is None and self.wavelength_um > 0:
            usual = normalisation(self.wavelength_um, self.common_name)
        for name, value in zip(("mean", "std"), usual or (), strict=False):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, value)


@checked
@dataclass(frozen=True)
class QualityClass:
    """One class of a product's quality layer.

    As the flags of the CF conventions (section 3.5): `value` is a flag value, `bits` a flag mask.

    Parameters
    ----------
    name : str
        E.g. "cloud shadow".
    value : int
        The code of its pixels.
    bits : int, optional
        Which bits of the layer hold the code. None: the layer is a plain classification, all of it is the code.
    """

    name: str
    value: _Bits
    bits: _Bits | None = None

    def __post_init__(self) -> None:
        if self.bits is not None and self.value & ~self.bits:
            raise TimoError(
                f"The value {self.value} of {self.name!r} has bits that bits = {self.bits} leaves out. For a flag in "
                "bit n both are 2 to the power of n."
            )

    @checked
    def of(self, quality: Any) -> Any:
        """Return where the class holds, for an integer or an array of integers (numpy, xarray, dask)."""
        kind = getattr(getattr(quality, "dtype", None), "kind", "")
        if not (
            isinstance(plain(quality), int) or kind in ("iufb" if self.bits is None else "iub")
        ):
            raise TimoError(
                f"A quality layer holds whole numbers; got {described(quality)}. Use quality.astype(int)."
            )
        return (quality if self.bits is None else quality & self.bits) == self.value


@checked
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
    replaces: tuple[_Position, ...] = ()


@checked
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
    scale: AnyNumber | None = None
    offset: float | None = None
    nodata: float | None = None
    linear: bool = False
    shift: Callable[[Mapping[str, Any]], float] | None = None
    licence: str = ""
    attribution: str = ""
    cloud_score: CloudScore | None = None

    @checked
    def name(self, band: str) -> str:
        """Return the provider's name of a band of the cube or of the quality layer."""
        return self.names.get(band, band)


@checked
@dataclass(frozen=True)
class Sensor:
    """An instrument and one of its products.

    Parameters
    ----------
    name : str
        The name in `cube.attrs["sensor"]`, e.g. "sentinel-2".
    product : str
        The product in words: satellite, instrument, collection, level.
    bands : tuple of Band
        In order of wavelength; radar in the order VV, VH, HH, HV.
    scale, offset : float
        Physical value = digital number x scale + offset. A scale of NaN: the factors differ from scene to scene, and
        the user gives them.
    units : str
        Unit of the physical values; by default that of the kind.
    nodata : float, optional
        The digital number of a pixel without data.
    mask_name : str
        The product's own quality layer; empty if it has none.
    quality : tuple of QualityClass
        Classes of that layer. In a bit mask several can hold for one pixel.
    masked : tuple of int
        Positions in `quality` of the classes without a valid observation of the ground, unless the user says otherwise.
        In a plain classification (Sentinel-2) the position is the code.
    fringed : tuple of int
        Those of them (clouds and their shadows) whose surroundings are doubtful as well.
    coherent : callable, optional
        Of integers of a bit mask: whether its bits can stand together. They cannot where a mask was interpolated.
    fringe_m : float
        Width of these surroundings in metres, unless the user says otherwise.
    period_days : int
        Days that one image is made of; it is dated with the first, in UTC. 0: images are of one overpass.
    usual : tuple of str
        Bands that are opened where none are asked for; empty: all.
    collections : tuple of Collection
        Where the product is served; empty: it is opened from files.
    attribution : str
        Credit to show with the data; `{years}` stands for the years.
    licence : str
        Address of the terms of use.
    kind : {"reflectance", "backscatter", "index", "other"}
        Kind of the physical values, by which they are checked (`timo.cube.check_values`).
    bounds : (float, float), optional
        Plausible least and greatest physical value, where they are not those of the kind (`BOUNDS`).
    level : str
        Processing level, as its producer writes it.
    satellites : tuple of str
        Satellites of the product, as `timo.sensors.identify` names them; empty for a user's own sensor.
    baseline_offset : int
        Number that ESA has added to the digital numbers since processing baseline 04.00 (25 January 2022); 0: none.
    joined : tuple of Sensor
        Of the sensor of a joint cube (`timo.cube.join`): those that it consists of, their bands named as in the cube.
    """

    name: str
    product: str
    bands: tuple[Band, ...]
    scale: AnyNumber
    units: str = ""
    mask_name: str = ""
    quality: tuple[QualityClass, ...] = ()
    masked: tuple[_Position, ...] = ()
    fringed: tuple[_Position, ...] = ()
    coherent: Callable[[Any], Any] | None = None
    offset: float = 0.0
    nodata: float | None = None
    fringe_m: NotNegative = 0.0
    period_days: _Position = 0
    usual: tuple[str, ...] = ()
    collections: tuple[Collection, ...] = ()
    attribution: str = ""
    licence: str = ""
    kind: Kind = "reflectance"
    bounds: tuple[AnyNumber, AnyNumber] | None = None
    level: str = ""
    satellites: tuple[str, ...] = ()
    baseline_offset: int = 0
    joined: tuple[Sensor, ...] = ()

    def __post_init__(self) -> None:
        if not self.units:
            object.__setattr__(self, "units", UNITS.get(self.kind, ""))

    @property
    def parts(self) -> tuple[Sensor, ...]:
        """Return the sensors of a joint cube, their bands named as in it; of any other sensor, itself alone."""
        return self.joined or (self,)

    @property
    def default_bands(self) -> tuple[str, ...]:
        """Return the bands that are opened where none are asked for."""
        return self.usual or self.band_names

    @checked
    def wavelengths(self, names: Iterable[str]) -> tuple[float, ...]:
        """Return the central wavelengths of bands in micrometres, or the codes of their polarisations.

        Raises
        ------
        TimoError
            If the sensor has no such band, or one has no wavelength (an index has none).
        """
        bands = self.select(names)
        if without := [band.name for band in bands if math.isnan(band.wavelength_um)]:
            raise TimoError(
                f"{self.name} has no wavelength of {' and '.join(without)}, and a model with "
                'stem="wavelength" knows bands by it: leave the band out, or make the model with stem="plain".'
            )
        return tuple(band.wavelength_um for band in bands)

    @checked
    def kind_of(self, band: str) -> Kind:
        """Return the kind of a band's values."""
        return self.band(band).kind or self.kind

    @checked
    def nodata_of(self, band: str, collection: Collection | None = None) -> float | None:
        """Return the digital number of a pixel of a band without data, as a provider serves it."""
        if collection is not None and collection.nodata is not None:
            return collection.nodata
        own = self.band(band).nodata
        return self.nodata if own is None else own

    @checked
    def credit(self, years: str, collection: Collection | None = None) -> str:
        """Return the credit to show with data of these years ("2019-2021"), as a provider serves them."""
        text = (collection and collection.attribution) or self.attribution
        return text.format(years=years)

    @checked
    def collection(self, provider: str) -> Collection:
        """Return where a provider serves the product.

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
        """Return the names of the bands, in order of wavelength."""
        return tuple(band.name for band in self.bands)

    @property
    def mask_classes(self) -> tuple[str, ...]:
        """Return the names of the quality classes, by position."""
        return tuple(kind.name for kind in self.quality)

    @checked
    def physical(self, numbers: Any) -> Any:
        """Return the physical values of digital numbers (a float or an array); `nodata` is left to the caller."""
        if not is_number(numbers) and getattr(
            getattr(numbers, "dtype", None), "kind", ""
        ) not in tuple("iuf"):
            raise TimoError(
                f"Digital numbers are a number or an array of numbers; got {described(numbers)}."
            )
        return numbers * self.scale + self.offset

    @checked
    def flagged(self, quality: Any, classes: Iterable[int] | None = None) -> Any:
        """Return where the quality layer has any of these classes.

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
        # Nothing is false everywhere, in any kind of array.
        anything = quality != quality  # noqa: PLR0124
        for position in positions:
            anything = anything | self.quality[position].of(quality)
        return anything

    @checked
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
        radar = (
            " Radar comes in a cube of its own: timo.cube.join(cube, radar) makes one of both."
            if name in POLARISATIONS
            else ""
        )
        raise TimoError(
            f"{self.name} has no band {name!r}. Its bands are: {', '.join(self.band_names)}.{radar}"
        )

    @checked
    def band_origin(self, name: str) -> tuple[str, str]:
        """Return the sensor that a band is of, and its name there: ("hls-l30", "B4") of "hls-l30:B4".

        Raises
        ------
        TimoError
            If the sensor has no such band.
        """
        self.band(name)
        part = next(part for part in self.parts if name in part.band_names)
        return part.name, name.removeprefix(f"{part.name}:")

    @checked
    def select(self, names: Iterable[str]) -> tuple[Band, ...]:
        """Return the bands called `names`, in that order (see `band`)."""
        return tuple(self.band(name) for name in names)

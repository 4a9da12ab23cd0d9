"""Whose image a file is: satellite, level and collection, from its name, its folders and its tags.

Every rule is the naming convention of a producer. Where a name says nothing, the answer is None and not a guess: the
digital numbers of a level-1 product look like those of a level-2 product, and the third file of Landsat 7 is red, of
Landsat 8 green.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from timo.checks import checked
from timo.sensors.product import Sensor
from timo.sensors.registry import find_sensor


@checked
@dataclass(frozen=True)
class Identity:
    """The product that an image is of, by its name or tags.

    Attributes
    ----------
    sensor : str or None
        The name in `timo.sensors.SENSORS` of the product that reads it. None: with `level`, a product that timo does
        not read; without, the name does not say the level, and the user must (``sensor=``).
    satellite : str
        E.g. "landsat-7", "sentinel-2", "planetscope", "terra".
    level : str
        Processing level as its producer writes it ("L2A", "L1TP", "SR"); empty where the name does not say.
    product : str
        Satellite, instrument, collection and level in words, for messages.
    linear : bool or None
        For radar: whether the values are linear power (True) or decibels (False); None where the name does not say.
    """

    sensor: str | None
    satellite: str
    level: str
    product: str
    linear: bool | None = None

    @checked
    def fits(self, sensor: Sensor) -> bool:
        """Return whether an image of this identity can be read as `sensor`, which the user has named.

        Sensors that users added themselves fit anything: they know what they registered.
        """
        if not sensor.satellites or sensor.name == self.sensor:
            return True
        if not self.satellite:
            return sensor.level.startswith("L1")
        return self.sensor is None and not self.level and self.satellite in sensor.satellites


_Rule = Callable[[re.Match[str]], Identity]
_RULES: list[tuple[re.Pattern[str], _Rule]] = []


def _rule(pattern: str) -> Callable[[_Rule], _Rule]:
    """Register what a pattern of names says; rules are asked in the order in which they stand."""

    def register(rule: _Rule) -> _Rule:
        _RULES.append((re.compile(rf"(?<![A-Z0-9])(?:{pattern})", re.IGNORECASE), rule))
        return rule

    return register


# --- Harmonised and analysis-ready products: their names may hold those of the satellites, and so come first.


@_rule(r"HLS(?P<vi>-VI)?\.(?P<kind>[LS]30)(?:\.T?\w{5}\.\d{7}T?\d*)?(?:\.(?P<version>v\d\.\d))?")
def _hls(match: re.Match[str]) -> Identity:
    kind = match["kind"].upper()
    satellite, name = (
        ("landsat-8-9", "Landsat 8-9") if kind == "L30" else ("sentinel-2", "Sentinel-2")
    )
    version = f" {match['version'].lower()}" if match["version"] else ""
    if match["vi"]:
        return Identity(None, satellite, "HLS-VI", f"HLS-VI {kind}{version} vegetation indices")
    product = f"HLS {kind}{version} surface reflectance ({name}, harmonised)"
    return Identity(f"hls-{kind.lower()}", satellite, "HLS", product)


_FORCE = {
    "LND04": "landsat-4",
    "LND05": "landsat-5",
    "LND07": "landsat-7",
    "LND08": "landsat-8",
    "LND09": "landsat-9",
    "SEN2A": "sentinel-2",
    "SEN2B": "sentinel-2",
    "SEN2C": "sentinel-2",
    "SEN2D": "sentinel-2",
}


@_rule(r"\d{8}_LEVEL2_(?P<who>LND0\d|SEN2[A-D])_(?P<what>[A-Z]{3})")
def _force(match: re.Match[str]) -> Identity:
    who, what = match["who"].upper(), match["what"].upper()
    satellite = _FORCE.get(who, "")
    if what == "TOA":
        product = f"FORCE Level-2 top-of-atmosphere reflectance ({who})"
        return Identity(None, satellite, "TOA", product)
    return Identity("force", satellite, "ARD", f"FORCE Level-2 ARD surface reflectance ({who})")


@_rule(r"\d{4}-\d{4}_\d{3}-\d{3}_HL_(?P<module>TSA|CSO|UDF|SMP|LSM)_(?P<who>[A-Z0-9]{5})_")
def _force_higher_level(match: re.Match[str]) -> Identity:
    who, module = match["who"].upper(), match["module"].upper()
    product = f"FORCE higher-level {module} ({who})"
    satellite = {"SEN2": "sentinel-2"}.get(who[:4], "landsat")
    return Identity("force" if module == "TSA" else None, satellite, f"HL {module}", product)


# --- Landsat


def _landsat_product(letter: str, number: int, level: str, collection: int, rest: str) -> Identity:
    """Identify a Landsat scene: `level` as in its identifier, `collection` 0 before there were any."""
    satellite, rest = f"landsat-{number}", rest.lower()
    instrument = {"M": "MSS", "E": "ETM+", "T": "TM"}.get(letter, "OLI")
    if letter == "T" and number >= 8:
        instrument = "TIRS (thermal infrared alone)"
    which = f"Collection {collection}" if collection else "pre-collection"
    title = f"Landsat {number} {instrument} {which}"
    family = "landsat-8-9" if number >= 8 else "landsat-4-7"
    readable = instrument in ("OLI", "ETM+", "TM")
    # Until Collection 1 the surface reflectance, made on demand, kept the identifier of its level-1 scene.
    if level.startswith("L1") and collection < 2 and re.match(r"[_-]?(sr_|srb|pixel_?qa)", rest):
        product = f"{title} surface reflectance"
        return Identity(f"{family}-c1" if readable else None, satellite, "SR", product)
    if level.startswith("L1") and re.match(r"[_-]?(toa_|tab|bt_|btb)", rest):
        product = f"{title} top-of-atmosphere reflectance made on demand"
        return Identity(None, satellite, "TOA", product)
    if level.startswith("L2"):
        sensor = family if readable and collection == 2 else f"{family}-c1" if readable else None
        return Identity(sensor, satellite, level, f"{title} Level-2 surface reflectance")
    product = f"{title} Level-1 (digital numbers, not surface reflectance)"
    return Identity(f"{family}-l1" if readable else None, satellite, level, product)


@_rule(
    r"L(?P<letter>[COTEM])0(?P<number>[1-9])_(?P<level>L[12][A-Z]{2})"
    r"(?:_\d{6}_\d{8}(?:_\d{8})?(?:_0(?P<collection>[12])(?:_(?:T1|T2|RT|A1|A2))?)?)?(?P<rest>.*)"
)
def _landsat(match: re.Match[str]) -> Identity:
    level = match["level"].upper()
    # What stops before its collection: level 2 in this notation came with Collection 2.
    collection = int(match["collection"] or (2 if level.startswith("L2") else 1))
    return _landsat_product(
        match["letter"].upper(), int(match["number"]), level, collection, match["rest"]
    )


@_rule(
    r"L(?P<letter>[COTEM])0(?P<number>[1-9])_(?:CU|AK|HI)_\d{6}_\d{8}_\d{8}_C?0(?P<collection>[12])"
    r"(?:_V\d\d)?_(?P<layer>SR|ST|TOA|TA|BT|QA|PIXELQA)"
)
def _landsat_tile(match: re.Match[str]) -> Identity:
    level = "L1TP" if match["layer"].upper() in ("TOA", "TA", "BT") else "L2SR"
    collection, rest = int(match["collection"]), "_toa_" if level == "L1TP" else ""
    letter, number = match["letter"].upper(), int(match["number"])
    return _landsat_product(letter, number, level, collection, rest)


@_rule(
    r"L(?P<letter>[COTEM])(?P<number>[1-9])\d{6}(?:19|20)\d{5}[A-Z]{3}\d\d(?P<rest>.*)",
)
def _landsat_scene(match: re.Match[str]) -> Identity:
    return _landsat_product(match["letter"].upper(), int(match["number"]), "L1", 0, match["rest"])


@_rule(
    r"(?:LANDSAT[ _-]?0?|L(?=\d[_-](?:(?:19|20)\d{6}[_-])?(?:SR|TOA|OLI|ETM|TM)))(?P<number>[4-9])(?![A-Z0-9])"
)
@_rule(r"L[COTEM]0(?P<number>[1-9])(?=_\d{6}_(?:19|20)\d{6}|[_-][^L]|[_-]?$)")
def _landsat_somewhere(match: re.Match[str]) -> Identity:
    number = int(match["number"])
    return Identity(
        None, f"landsat-{number}", "", f"Landsat {number}, level and collection not said"
    )


@_rule(r"ETM\+?(?=[ _-])")
def _landsat_7(_: re.Match[str]) -> Identity:
    return Identity(None, "landsat-7", "", "Landsat 7 ETM+, level and collection not said")


# --- Sentinel-2


def _sentinel_2(level: str, more: str = "") -> Identity:
    level = f"L{level.upper()[-2:]}"
    name = {"L2A": "sentinel-2", "L1C": "sentinel-2-l1c"}.get(level)
    what = {"L2A": "surface reflectance", "L1C": "top-of-atmosphere reflectance"}.get(level, "")
    product = f"Sentinel-2 MSI Level-{level[1:]} {what}{more}".strip()
    return Identity(name, "sentinel-2", level, product)


@_rule(r"SENTINEL2[A-D]_\d{8}-\d{6}-\d{3}_(?P<level>L1C|L2A|L3A)_")
def _sentinel_2_theia(match: re.Match[str]) -> Identity:
    return _sentinel_2(match["level"], " (MAJA)")


@_rule(r"SENTINEL[ _-]*2[A-D]?(?![0-9]).*?(?P<level>L(?:EVEL)?[ _-]*(?:1C|2A))(?![A-Z0-9])")
@_rule(r"S2[A-D]?[_-](?P<level>L1C|L2A)(?![A-Z0-9])")
@_rule(r"S2[A-D]_(?:OPER|USER)_(?:PRD_)?MSI_?(?P<level>L1[A-C]|L2A)_")
@_rule(r"S2[A-D]_MSI(?P<level>L1[A-C]|L2A)")
@_rule(r"S2[A-D]_(?:T?\d\d[C-X][A-Z]{2}_)?\d{8}(?:T\d{6})?_(?:\d_)?(?P<level>L1C|L2A)")
@_rule(r"(?P<level>L1C|L2A)_T\d\d[C-X][A-Z]{2}_")
def _sentinel_2_product(match: re.Match[str]) -> Identity:
    return _sentinel_2(match["level"])


@_rule(r"T\d\d[C-X][A-Z]{2}_\d{8}T\d{6}_(?:B\d[\dA]|SCL|AOT|WVP|TCI)_[126]0m")
def _sentinel_2_image(_: re.Match[str]) -> Identity:
    # Only level 2A has images in several resolutions, and says which.
    return _sentinel_2("L2A")


@_rule(r"S2[A-D](?=[_-])|T\d\d[C-X][A-Z]{2}_\d{8}T|\d{8}T\d{6}_\d{8}T\d{6}_T\d\d[C-X][A-Z]{2}")
def _sentinel_2_somewhere(_: re.Match[str]) -> Identity:
    product = (
        "Sentinel-2 MSI, level not said (images of Level-1C and of exports are named like this)"
    )
    return Identity(None, "sentinel-2", "", product)


# --- Sentinel-1


def _sentinel_1(level: str, linear: bool | None = None, how: str = "") -> Identity:
    product = {
        "GRD": "Sentinel-1 GRD backscatter (sigma nought)",
        "RTC": "Sentinel-1 RTC backscatter (gamma nought, corrected for slopes)",
        "SLC": "Sentinel-1 SLC (complex)",
        "OCN": "Sentinel-1 OCN (ocean)",
        "RAW": "Sentinel-1 RAW",
    }.get(level, "Sentinel-1, level not said")
    readable = "sentinel-1" if level in ("GRD", "RTC") else None
    return Identity(readable, "sentinel-1", level, product + how, linear)


@_rule(r"S1[A-D]_(?:IW|EW|SM|S[1-6])_\d{8}T\d{6}_\w{3}_RTC\d\d_[A-Z]_(?P<kind>[gs])(?P<unit>[pda])")
def _sentinel_1_hyp3(match: re.Match[str]) -> Identity:
    how = {"p": ", linear power", "d": ", decibels", "a": ", amplitude"}[match["unit"].lower()]
    if match["kind"].lower() == "s":
        return Identity("sentinel-1", "sentinel-1", "RTC", f"Sentinel-1 RTC (sigma nought{how})")
    return _sentinel_1("RTC", {"p": True, "d": False}.get(match["unit"].lower()), how)


@_rule(r"OPERA_L2_RTC-S1_")
def _sentinel_1_opera(_: re.Match[str]) -> Identity:
    return _sentinel_1("RTC", True, ", linear power (OPERA)")


@_rule(
    r"S1[A-D]_(?:IW|EW|SM|S[1-6])_(?P<level>GRD|SLC|OCN|RAW)[FHM_]?.*?(?P<rtc>[_.-]rtc|gamma0)?$"
)
def _sentinel_1_product(match: re.Match[str]) -> Identity:
    if match["rtc"]:
        return _sentinel_1("RTC")
    return _sentinel_1(match["level"].upper())


@_rule(r"S1[A-D]?[_-](?P<level>GRD|RTC|SLC)(?![A-Z0-9])")
@_rule(r"S1[A-D]-(?:IW|EW|SM|S[1-6])\d?-(?P<level>GRD|SLC|OCN|RAW)-")
def _sentinel_1_measurement(match: re.Match[str]) -> Identity:
    return _sentinel_1(match["level"].upper())


@_rule(r"S1[A-D][_-](?:IW|EW|SM|S[1-6])")
def _sentinel_1_somewhere(_: re.Match[str]) -> Identity:
    return _sentinel_1("")


# --- MODIS


@_rule(r"(?P<who>MOD|MYD)(?P<what>09(?:A1|GA|Q1)|13(?:Q1|A1|A2))")
def _modis(match: re.Match[str]) -> Identity:
    who = match["who"].upper()
    satellite = {"MOD": "terra", "MYD": "aqua"}[who]
    name = f"{who}{match['what'].upper()}"
    if match["what"].startswith("13"):
        return Identity("modis-vegetation", satellite, "L3", f"MODIS vegetation indices ({name})")
    return Identity("modis", satellite, "L2G", f"MODIS surface reflectance ({name})")


@_rule(r"(?P<name>(?:MOD|MYD|MCD)(?:09|1[1-7]|2[01]|4[3-5]|64)[A-Z]\w)")
def _modis_other(match: re.Match[str]) -> Identity:
    name = match["name"].upper()
    satellite = {"MOD": "terra", "MYD": "aqua"}.get(name[:3], "terra")
    return Identity(None, satellite, name, f"MODIS {name}")


# --- PlanetScope


@_rule(
    r"\d{8}_\d{6}(?:_\d\d)?_[0-9a-f]{4}_(?P<level>[13][AB])_(?P<asset>AnalyticMS|Analytic|Visual|udm2?)"
    r"(?P<sr>_SR)?(?P<eight>_8b)?"
)
def _planetscope(match: re.Match[str]) -> Identity:
    level, asset = match["level"].upper(), match["asset"].lower()
    title = f"PlanetScope {level}"
    if asset.startswith("udm"):
        return Identity(None, "planetscope", "", f"{title} usable data mask")
    if not match["sr"] or asset == "visual":
        what = "a colour picture" if asset == "visual" else "radiance"
        product = f"{title} {match['asset']} ({what}, not surface reflectance)"
        return Identity(None, "planetscope", level, product)
    bands = 8 if match["eight"] else 4
    product = f"{title} surface reflectance, {bands} bands"
    return Identity(f"planetscope-{bands}", "planetscope", level, product)


@_rule(r"\d+_\d+_\d{4}-\d\d-\d\d_[0-9a-f]{4}_BGRN_(?P<what>SR|Analytic)")
def _planetscope_tile(match: re.Match[str]) -> Identity:
    if match["what"].upper() == "SR":
        product = "PlanetScope ortho tile surface reflectance, 4 bands"
        return Identity("planetscope-4", "planetscope", "3A", product)
    return Identity(None, "planetscope", "3A", "PlanetScope ortho tile (radiance)")


# --- The answer


@checked
def identify(text: str, tags: Mapping[Any, Any] | None = None) -> Identity | None:
    """Identify the product that a file is of, from its name and tags.

    Parameters
    ----------
    text : str
        The file's name, or better its last folders and name ("S2A_MSIL1C_....SAFE/GRANULE/.../T34TFR_..._B04.jp2").
    tags : mapping, optional
        What the file says of itself: tags of a GeoTIFF, global attributes of a NetCDF file.

    Returns
    -------
    Identity or None
        None where neither says anything. The name is asked first, from its end, then the tags; what says the level
        comes before what says only the satellite, and of two levels of Sentinel-2 the first is believed: tags of an
        image that is called L2A state what it was made as.
    """
    said = {str(k).upper(): str(v).strip() for k, v in (tags or {}).items()}
    if own := said.get("TIMO_SENSOR"):
        return _timo(own)
    found = [*_named(text), *_tagged(said)]
    first = found[0] if found else None
    if first is not None and not first.level:
        more = (one for one in found if one.level and one.satellite == first.satellite)
        first = next(more, first)
    if first is None or not first.level:
        words = (text, said.get("TITLE", ""))
        return next((_level_1(first, word[0]) for w in words if (word := _TOA.search(w))), first)
    if first.sensor == "sentinel-2":
        level_1 = (one for one in found if one.sensor == "sentinel-2-l1c")
        more_said = f" (by its tags, or a folder; elsewhere it is called {first.product})"
        return next((replace(o, product=o.product + more_said) for o in level_1), first)
    return first


# Words for level 1, where nothing else says the level.
_TOA = re.compile(
    r"(?<![A-Z0-9])(?:L1C|LEVEL[ _-]?1C|TOA|TOP[ _-]OF[ _-](?:THE[ _-])?ATMOSPHERE)(?![A-Z0-9])",
    re.IGNORECASE,
)


def _level_1(identity: Identity | None, word: str) -> Identity:
    """Add what a word for level 1 says to an identity without a level."""
    satellite = identity.satellite if identity else "sentinel-2" if word[-2:] in "1c1C" else ""
    if identity is None and not satellite:
        return Identity(None, "", "TOA", "top-of-atmosphere reflectance, satellite not said")
    if satellite == "sentinel-2":
        return _sentinel_2("L1C")
    if satellite.startswith("landsat") and identity is not None:
        family = "landsat-8-9-l1" if satellite[-1] in "89" else "landsat-4-7-l1"
        return Identity(family, satellite, "L1", f"{identity.product}, top of atmosphere")
    return identity or _sentinel_2("L1C")


def _timo(name: str) -> Identity:
    """Identify a file that `timo.export` wrote: its values are physical already."""
    known = find_sensor(name)
    if known is None:
        product = (
            f"a cube of the sensor {name!r}, which is not known here (timo.sensors.read_sensor)"
        )
        return Identity(None, name, "cube", product)
    return Identity(name, name, known.level or "cube", known.product)


def _named(text: str) -> Iterable[Identity]:
    """Identify by the parts of a path, the file's name first."""
    for part in reversed(re.split(r"[/\\]+", text)):
        if identity := _match(part):
            yield identity


def _match(name: str) -> Identity | None:
    name = re.sub(
        r"\.(tiff?|jp2|nc4?|zarr|vrt|hdf|h5|xml|img|SAFE|zip|tar|gz)$", "", name, flags=re.I
    )
    for pattern, rule in _RULES:
        if match := pattern.search(name):
            return rule(match)
    return None


# Tags that hold an identifier of the product; in HLS files they name the scene that it was made of.
_IDENTIFIERS = (
    "LANDSAT_PRODUCT_ID",
    "PRODUCT_URI",
    "PRODUCT_ID",
    "PRODUCER_GRANULE_ID",
    "LOCALGRANULEID",
    "LANDSAT_SCENE_ID",
    "SCENE_ID",
    "SYSTEM:INDEX",
    "SHORTNAME",
    "TITLE",
    "ID",
    "TIFFTAG_IMAGEDESCRIPTION",
    "TIFFTAG_DOCUMENTNAME",
    "DESCRIPTION",
    "SOURCE",
)
_SATELLITES = (
    "SPACECRAFT_ID",
    "SPACECRAFT_NAME",
    "DATATAKE_1_SPACECRAFT_NAME",
    "SATELLITE",
    "SATELLITE_ID",
    "PLATFORM",
    "MISSION",
    "CONSTELLATION",
    "SENSOR",
    "INSTRUMENT",
)
_LEVELS = ("PROCESSING_LEVEL", "PROCESSING:LEVEL", "PRODUCT_TYPE", "DATA_TYPE", "LEVEL")


def _tagged(tags: Mapping[str, str]) -> Iterable[Identity]:
    """Identify by tags, identifiers of the product first."""
    who = " ".join(tags[key] for key in _SATELLITES if key in tags).lower()
    harmonised = any(key.startswith("HLS") for key in tags) or any(
        re.search(r"(?<![A-Za-z0-9])HLS(?![A-Za-z0-9])|HLS[LS]30", tags.get(key, ""))
        for key in (*_IDENTIFIERS, *_LEVELS, "PRODUCT", "COLLECTION")
    )
    for key in () if harmonised else _IDENTIFIERS:
        if key in tags and (identity := _match(tags[key])):
            yield identity
    level = " ".join(tags[key] for key in _LEVELS if key in tags).upper()
    if harmonised:
        text = f"{who} {level} {' '.join(tags.get(k, '') for k in _IDENTIFIERS)}".upper()
        kinds = {k for k, signs in _HLS_SIGNS.items() if re.search(signs, text)}
        if len(kinds) == 1:
            yield _match(f"HLS.{kinds.pop()}")  # type: ignore[misc]
    elif match := re.search(r"landsat[ _-]*0?([1-9])(?!\d)", who):
        yield _landsat_tags(int(match[1]), who, level, tags)
    elif re.search(r"sentinel[ _-]*2|s2[a-d]\b|s2msi", f"{who} {level.lower()}") or (
        # The letter is Sentinel-2's.
        not who and re.search(r"\bL(?:EVEL)?[ _-]*1C\b", level)
    ):
        said = re.search(r"L(?:EVEL)?[ _-]*(1C|2A)|MSI_?(?:L)?(1C|2A)", level)
        yield _sentinel_2(f"L{said[1] or said[2]}") if said else _match("S2A_")  # type: ignore[misc]
    elif re.search(r"sentinel[ _-]*1|s1[a-d]\b", who):
        said = re.search(r"GRD|RTC|SLC|OCN", level)
        yield _sentinel_1(said[0] if said else "")
    elif re.search(r"planet ?scope|dove", who):
        yield Identity(None, "planetscope", "", "PlanetScope, asset not said")


_HLS_SIGNS = {"L30": r"L30|LANDSAT|OLI|LC0[89]", "S30": r"S30|SENTINEL|S2[A-D]_|MSI"}


def _landsat_tags(number: int, who: str, level: str, tags: Mapping[str, str]) -> Identity:
    said = re.search(r"L[12][A-Z]{2}|LEVEL[ _-]*([12])|\bL([12])\b", level)
    if said is None:
        return Identity(
            None, f"landsat-{number}", "", f"Landsat {number}, level and collection not said"
        )
    letter = "M" if "mss" in who else "E" if number == 7 else "T" if number in (4, 5) else "C"
    collection = re.search(r"[12]", tags.get("COLLECTION_NUMBER", tags.get("COLLECTION", "")))
    name = said[0] if re.match(r"L[12][A-Z]{2}", said[0]) else f"L{said[1] or said[2]}"
    return _landsat_product(letter, number, name, int(collection[0]) if collection else 2, "")

"""Sentinel-1: backscatter of C-band radar, through clouds."""

from timo.sensors.product import POLARISATIONS, Band, Collection, Sensor

# Ground range detected backscatter in decibels. Earth Engine's is sigma nought, corrected for where the terrain lies
# and not for its slopes; the Planetary Computer's is gamma nought, corrected for both: on slopes they differ by
# decibels, and one model should see one of them.
#
# Radar sees through clouds: there is no mask but where there are no data.
SENTINEL_1 = Sensor(
    name="sentinel-1",
    product="Sentinel-1 C-band SAR GRD backscatter",
    bands=(
        Band("VV", "", POLARISATIONS["VV"], 10),
        Band("VH", "", POLARISATIONS["VH"], 10),
        Band("HH", "", POLARISATIONS["HH"], 10),
        Band("HV", "", POLARISATIONS["HV"], 10),
    ),
    scale=1.0,
    usual=("VV", "VH"),
    collections=(
        # In decibels already: the floating-point twin of the collection is the linear one.
        Collection(
            "earthengine",
            ("COPERNICUS/S1_GRD",),
            where={"instrumentMode": "IW"},
            orbit="orbitProperties_pass",
            band_list="transmitterReceiverPolarisation",
        ),
        # Terrain-corrected gamma nought: plain GRD scenes lie in the geometry of the radar, and not on a map.
        Collection(
            "planetary-computer",
            ("sentinel-1-rtc",),
            names={name: name.lower() for name in POLARISATIONS},
            where={"sar:instrument_mode": "IW"},
            orbit="sat:orbit_state",
            band_list="sar:polarizations",
            nodata=-32768,
            linear=True,
            licence="https://creativecommons.org/licenses/by/4.0/",
            attribution="Contains modified Copernicus Sentinel data {years}; terrain correction by Catalyst for the "
            "Microsoft Planetary Computer, CC BY 4.0",
        ),
    ),
    attribution="Contains modified Copernicus Sentinel data {years}",
    licence="https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    kind="backscatter",
    level="GRD, RTC",
    satellites=("sentinel-1",),
)

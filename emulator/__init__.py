"""A small Earth Engine on the loopback: to learn without an account, and to test without a network.

>>> from ee_emulator import Emulator
>>> with Emulator() as emulator:  # doctest: +SKIP
...     emulator.initialize()  # ee.Initialize() with the emulator's address and no credentials
...     images = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").filterDate("2018-06-01", "2018-09-01")
...     images.size().getInfo()

or as a process of its own: ``python -m ee_emulator --port 8085`` prints its address, which
``ee.Initialize(google.auth.credentials.AnonymousCredentials(), url=address, project="emulator")`` takes.

`sample_backing` is the sample as Sentinel-2 images; any other images: `Backing` of `BackedImage`, numpy arrays with a
place and a time. `Faults` makes requests fail on purpose.
The README beside this file says what it answers and what it does not.
"""

from .backing import BackedBand, BackedImage, Backing
from .errors import EmulatorError
from .faults import Faults
from .sample import sample_backing
from .server import Emulator, Entry

__all__ = [
    "BackedBand",
    "BackedImage",
    "Backing",
    "Emulator",
    "EmulatorError",
    "Entry",
    "Faults",
    "sample_backing",
]

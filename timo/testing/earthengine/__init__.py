"""An Earth Engine on the loopback: to learn without an account, and to test without a network.

A small HTTP server speaks Earth Engine's protocol to the real client (`ee`, and what is built on it: `xee`, `geemap`),
evaluates the expressions that they send over images held in memory, and can go wrong on purpose.

>>> from timo.testing.earthengine import Emulator
>>> with Emulator() as emulator:  # doctest: +SKIP
...     emulator.initialize()  # ee.Initialize() with the emulator's address and no credentials
...     images = ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").filterDate("2018-06-01", "2018-09-01")
...     images.size().getInfo()

or as a process of its own: ``python -m timo.testing.earthengine --port 8085 --latency 0.05`` prints its address, which
``ee.Initialize(google.auth.credentials.AnonymousCredentials(), url=address, project="emulator")`` takes.

What is in it
-------------
`sample_backing` is the sample cube as Sentinel-2 images with a Cloud Score+ made up from their scene classification,
at its place or, with ``everywhere=True``, mirrored over the whole Earth; `synthetic_backing` is made-up images of the
other sensors. Any other images: `Backing` of `BackedImage`, numpy arrays with a place and a time.

What it does
------------
``value:compute``, ``image:computePixels`` (NPY and PNG), ``maps`` with their tiles, the listing of assets, and more
than 400 of the service's algorithms: collections and their filters, joins and reducers, band maths and bits, masks,
neighbourhoods, projections, mosaics and composites, statistics of regions, lists, dictionaries, strings, numbers, dates
and geometries. An algorithm that it does not know is refused with its name; it never makes a number up. Limits are the
service's: 48 MiB, 32,768 pixels a side and 1,024 bands in one request, which itself is of at most 10 MiB; 5,000
elements of a collection.

As in Earth Engine a result is masked where any of its inputs is; pixels come from the level of the image's pyramid
whose scale is the closest that is not coarser than the request's, by nearest neighbour; composites ignore masked
pixels; masks and selections keep an image's properties. The tests name the page of the documentation for each.

What it does otherwise
----------------------
A mask is 0 or 1, where Earth Engine has fractions between: at a coarse level of a pyramid a pixel is valid if any part
of it is. Floating-point types have no range. What a function gives that is no number (the logarithm of 0) is masked.
Maths keep an image's `system:index` and no other property, which the documentation leaves open. Reducers of a region
count each pixel whose centre is inside as one whole. Polygons have straight edges in longitude and latitude. Times are
in UTC. `resample` is bilinear. Nothing is exported, there are no tables, arrays or classifiers, and nobody is asked who
they are.

What can go wrong
-----------------
`Faults` answers a share of the requests with 429, 500, 503, 401 or half of a body, makes answers wait, and refuses what
is more than so many at once. Which request meets which fault follows from a seed, and `Faults.planned` counts them
beforehand. `Emulator.requests` counts what came in, `Emulator.log` lists it.
"""

from timo.testing.earthengine.backing import BackedBand, BackedImage, Backing
from timo.testing.earthengine.faults import Faults
from timo.testing.earthengine.sample import sample_backing
from timo.testing.earthengine.server import Emulator, Entry, Requests
from timo.testing.earthengine.synthetic import synthetic_backing

__all__ = [
    "BackedBand",
    "BackedImage",
    "Backing",
    "Emulator",
    "Entry",
    "Faults",
    "Requests",
    "sample_backing",
    "synthetic_backing",
]

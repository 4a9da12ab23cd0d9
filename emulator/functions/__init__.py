"""The algorithms, a file for each kind of value; importing this registers all of them."""

from . import (  # noqa: F401
    bands,
    collections,
    composites,
    containers,
    dates,
    elements,
    filters,
    geometries,
    indices,
    masks,
    maths,
    neighbours,
    pictures,
    projecting,
    promotion,
    reducing,
    regions,
    scalars,
)

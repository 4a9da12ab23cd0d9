"""The algorithms, a file for each kind of value; importing this registers all of them."""

from . import (  # noqa: F401
    bands,
    collections,
    composites,
    dates,
    dictionaries,
    elements,
    filters,
    geometries,
    indices,
    lists,
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

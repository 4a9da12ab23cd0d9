import importlib
import pkgutil
import types

from timo import geostat


def test_public_names_are_never_hidden_by_modules():
    # A module of the name of a function would take its place once anything imports it by its path.
    for module in pkgutil.walk_packages(geostat.__path__, "timo.geostat."):
        importlib.import_module(module.name)
    for name in geostat.__all__:
        assert not isinstance(getattr(geostat, name), types.ModuleType), name

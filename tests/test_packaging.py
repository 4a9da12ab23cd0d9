"""What installs, what ships, what `import timo` costs, and what the repository must not hold."""

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
LARGEST_PICTURE = 200_000  # bytes, decoded
FOLDERS = {"timo": "timo", "timo_widgets": "widgets", "ee_emulator": "emulator"}

# A folder of somebody's machine. Not after a letter or a point: https://example.org/root/ is none.
MACHINE_PATH = re.compile(rb"(?<![\w.])/(?:work|root|tmp/w|home/\w+|Users/\w+)/")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that must succeed; all its output is shown when it does not."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def loaded_modules(code: str, tmp_path: Path) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running the code."""
    last = run(sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)", cwd=tmp_path)
    return {name.split(".")[0] for name in last.splitlines()[-1].split()}


def repository_files() -> list[Path]:
    """Files under version control and new ones that are not ignored."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    names = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=ROOT).split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def shipped_files(folder: Path, package: str) -> set[str]:
    """Names in a wheel of the files under a folder: modules, py.typed, data."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {f"{package}/{path.relative_to(folder).as_posix()}" for path in files}


# --- what an import costs


def test_import_loads_nothing_heavy(tmp_path):
    heavy = {"torch", "xarray", "lightning", "matplotlib", "dask", "zarr", "pandas", "numpy"}
    assert loaded_modules("import timo", tmp_path) & heavy == set()


def test_opening_the_sample_loads_no_interface_and_no_trainer(tmp_path):
    pytest.importorskip("nrt")
    unwanted = {"lightning", "torchmetrics", "leafmap", "ipyleaflet", "ee", "geemap", "numba"}
    assert loaded_modules("import timo; timo.open_cube('sample')", tmp_path) & unwanted == set()


# --- metadata


def test_version_is_that_of_the_metadata():
    import timo

    assert timo.__version__ == importlib.metadata.version("timo") == PROJECT["version"]


def test_all_names_existing_extras():
    names = set(re.fullmatch(r"timo\[(.*)\]", EXTRAS["all"][0]).group(1).split(","))
    assert names <= set(EXTRAS)
    # `dev` is for those who change timo; every other extra is for those who use it.
    assert names == set(EXTRAS) - {"all", "dev"}


@pytest.mark.parametrize("name", ["Makefile", "environment.yml", "binder/postBuild"])
def test_installers_name_existing_extras_and_the_constraints(name):
    text = (ROOT / name).read_text()
    stated = re.findall(r"-e \"?\.\[([\w,]+)\]", text) + re.findall(
        r"^EXTRAS \?= (.*)$", text, re.M
    )
    assert len(stated) == 1
    assert set(stated[0].split(",")) <= set(EXTRAS)
    assert "-c constraints.txt" in text


def test_constraints_hold_torch_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    held = [line for line in lines if line and not line.startswith("#")]
    assert len(held) == 1
    assert re.fullmatch(r"torch==[\d.]+", held[0])


# --- conda and Binder


@pytest.mark.parametrize("name", ["environment.yml", "binder/environment.yml"])
def test_conda_environments(name):
    environment = yaml.safe_load((ROOT / name).read_text())
    assert environment["name"] == PROJECT["name"]
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert environment["dependencies"][:2] == ["python=3.11", "pip"]
    assert "cuda" not in json.dumps(environment).lower()


def test_binder_dockerfile():
    pytest.importorskip("repo2docker")
    command = (sys.executable, "-m", "repo2docker", "--no-build", "--debug", ".")
    dockerfile = run(*command, cwd=ROOT)
    # The base environment is chosen by its lock file, whose name is escaped: environment.py-3.11.
    assert "environment-2epy-2d3-2e11" in dockerfile
    assert '--file "binder/environment.yml"' in dockerfile
    assert "RUN ./binder/postBuild" in dockerfile


@pytest.mark.parametrize("name", ["binder/postBuild", ".ci/run"])
def test_scripts_run(name):
    assert os.access(ROOT / name, os.X_OK)
    run("bash", "-n", ROOT / name, cwd=ROOT)


# --- what ships


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what a build needs, in a folder with a space in its name."""
    copy = tmp_path_factory.mktemp("a copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS.values():
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    run(sys.executable, "-m", "pip", "wheel", *offline, "-w", folder, source, cwd=source)
    (path,) = folder.glob("*.whl")
    return path


def import_from(folder: Path, tmp_path: Path) -> list[str]:
    """Where the packages come from, with the folder as the only one whose .pth files are read."""
    others = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import site, sys; site.addsitedir({str(folder)!r}); sys.path += {others!r}\n"
        f"for name in {list(FOLDERS)}: print(__import__(name).__file__)"
    )
    return run(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH="").splitlines()[
        -len(FOLDERS) :
    ]


def test_wheel_holds_every_file_of_the_packages(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert {"timo/py.typed", "timo_widgets/py.typed", "timo_widgets/base/chart.js"} <= names
    assert names == set().union(*(shipped_files(ROOT / f, name) for name, f in FOLDERS.items()))


def test_sdist_and_wheel_hold_the_pretrained_weights(source, wheel, tmp_path):
    code = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    sdist = tmp_path / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]
    shutil.unpack_archive(sdist, tmp_path / "unpacked", filter="data")
    (root,) = (tmp_path / "unpacked").iterdir()
    folder = "timo/weights/timo-tiny"
    files = {f"{folder}/{name}" for name in ("weights.safetensors", "config.json", "README.md")}
    assert all((root / name).is_file() for name in files)
    assert files <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.parametrize("unpacked", [True, False])
def test_an_installed_wheel_loads_its_pretrained_weights(wheel, tmp_path, unpacked):
    """Also as it is: a package inside an archive, which Python imports as well."""
    place = tmp_path / "site" if unpacked else wheel
    if unpacked:
        zipfile.ZipFile(wheel).extractall(place)
    others = [path for path in sys.path if path.endswith("site-packages")]
    code = (
        f"import sys; sys.path[:0] = [{str(place)!r}]; sys.path += {others!r}\n"
        "import timo; from timo.loading import load_shipped\n"
        "print(timo.__file__); print(load_shipped('timo-tiny').sha256)"
    )
    file, checksum = run(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH="").split()[-2:]
    assert Path(file).is_relative_to(place)
    weights = ROOT / "timo/weights/timo-tiny/weights.safetensors"
    assert checksum == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_wheel_holds_the_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("LICENSE")]
    text = archive.read(name).decode()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_an_installed_wheel_imports(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    files = import_from(tmp_path / "site", tmp_path)
    expected = [tmp_path / "site" / name / "__init__.py" for name in FOLDERS]
    assert files == [str(path) for path in expected]


def test_installing_again_brings_the_emulator(wheel, tmp_path, monkeypatch):
    """The remedy that `open_cube("emulator")` names, done to a copy of timo that lacks it."""
    from timo.errors import TimoError
    from timo.sources.emulated import start_emulator

    monkeypatch.setitem(sys.modules, "ee_emulator", None)
    with pytest.raises(TimoError, match="lacks its Earth Engine emulator") as refused:
        start_emulator()
    command = re.search(r"pip (install [^(]+) timo \(", str(refused.value))[1].split()
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    shutil.rmtree(site / "ee_emulator")
    pip = (sys.executable, "-m", "pip", *command, "--no-index", "--upgrade", "--target", site)
    run(*pip, wheel, cwd=tmp_path)
    assert import_from(site, tmp_path)[-1] == str(site / "ee_emulator" / "__init__.py")


def test_an_editable_installation_imports(source, wheel, tmp_path):
    # The fixture `wheel` asks for the setuptools that this needs too.
    offline = ("--no-deps", "--no-index", "--no-build-isolation")
    target = tmp_path / "site"
    install = ("install", *offline, "--target", target, "-e", source)
    run(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    files = import_from(target, tmp_path)
    assert files == [str(source / name / "__init__.py") for name in FOLDERS.values()]


# --- what the repository must not hold


def test_no_file_holds_a_path_of_somebodys_machine():
    found = {
        f"{path.relative_to(ROOT)}: {match.group().decode()}"
        for path in repository_files()
        for match in MACHINE_PATH.finditer(path.read_bytes())
    }
    assert found == set()


@pytest.mark.parametrize(
    ("text", "found"),
    [("open('{}a.tif')", True), ("file://{}x", True), ("https://example.org{}x", False)],
)
def test_machine_paths_are_recognised(text, found):
    for folder in ("work", "root", "tmp/w", "home/someone", "Users/someone"):
        assert bool(MACHINE_PATH.search(text.format(f"/{folder}/").encode())) is found


def test_notebooks_hold_no_large_pictures():
    large = [
        f"{path.name}: {kind}, {len(base64.b64decode(''.join(data)))} bytes"
        for path in repository_files()
        if path.suffix == ".ipynb"
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
        for kind, data in output.get("data", {}).items()
        if kind.startswith("image/")
        and kind != "image/svg+xml"
        and len(base64.b64decode("".join(data))) > LARGEST_PICTURE
    ]
    assert large == []

"""One list of dependencies, one list of pins: pyproject.toml, constraints.txt, environment.yml, Makefile."""

import importlib.metadata
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import pagkit
from tests.helpers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def pins() -> dict[str, str]:
    """Name -> version of every line of constraints.txt, which must all read name==version."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!]+)", line)
            assert match, f"constraints.txt: expected name==version, found {line!r}"
            found[canonicalize_name(match[1])] = match[2]
    return found


REQUIREMENTS = sorted({*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)})


@pytest.mark.parametrize("line", REQUIREMENTS)
def test_every_dependency_has_a_pin_that_it_admits(line: str) -> None:
    requirement = Requirement(line)
    version = pins().get(canonicalize_name(requirement.name))
    assert version, f"constraints.txt has no pin for {requirement.name}"
    assert requirement.specifier.contains(version), f"the pin {version} is outside {line}"


def test_the_oldest_python_admits_every_pin() -> None:
    oldest = re.fullmatch(r">=([0-9.]+)", PROJECT["requires-python"])[1] + ".0"
    installed = {canonicalize_name(found.name): found for found in importlib.metadata.distributions()}
    held = {name: installed[name].metadata["Requires-Python"] for name in pins() if name in installed}
    assert len(held) > 100
    refused = {name: needs for name, needs in held.items() if needs and not SpecifierSet(needs).contains(oldest)}
    assert not refused, f"Python {oldest}, which pyproject.toml admits, cannot install {refused}"


def test_what_make_installs_without_dependencies_is_pinned() -> None:
    names = re.findall(r"--no-deps (\S+)", MAKEFILE)
    assert names == ["torchattacks"]
    assert set(names) <= set(pins())


def test_conda_and_make_install_the_same() -> None:
    conda, (pip,) = ENVIRONMENT["dependencies"][:-1], ENVIRONMENT["dependencies"][-1].values()
    extras = re.search(r"^EXTRAS := (\S+)$", MAKEFILE, flags=re.M)[1]
    assert pip == ["-c constraints.txt", f"-e .[{extras}]"]
    assert set(extras.split(",")) == set(EXTRAS)
    assert "pip" in conda


def test_conda_python_is_supported() -> None:
    (version,) = (line.split("=")[1] for line in ENVIRONMENT["dependencies"][:-1] if line.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)


INSTALLS = ["pyproject.toml", "constraints.txt", "environment.yml", "Makefile", ".ci/run", ".github/workflows/book.yml"]


@pytest.mark.parametrize("name", INSTALLS)
def test_no_file_names_a_package_index(name: str) -> None:
    hits = re.findall(r"\S*(?:://|index-url|find-links)\S*", (ROOT / name).read_text())
    assert not hits, f"{name} names {hits}: the user's own pip settings decide where packages come from"


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == pagkit.__version__

"""Every package opens with a map of what it holds: no public name is missing, and none that is named is gone."""

import importlib
import pkgutil
import re

import pytest

import sgdynamics.models
import sgdynamics.simulate
import sgdynamics.theory

NAMED = re.compile(r"``(\w+)``|:(?:func|class):`~?(?:[\w.]+\.)?(\w+)`")


def packages():
    for floor in (sgdynamics.models, sgdynamics.theory, sgdynamics.simulate):
        for info in pkgutil.walk_packages(floor.__path__, f"{floor.__name__}."):
            if info.ispkg and not any(part.startswith("_") for part in info.name.split(".")):
                module = importlib.import_module(info.name)
                if hasattr(module, "__all__"):
                    yield info.name, module


PACKAGES = dict(packages())


def test_there_are_maps_to_read():
    assert len(PACKAGES) >= 20


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_on_the_map(name):
    said = {one or other for one, other in NAMED.findall(PACKAGES[name].__doc__ or "")}
    assert set(PACKAGES[name].__all__) - {"SOURCES"} <= said


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_in_a_table_of_answers_is_public(name):
    tables = re.findall(r"where to look\n=+  =+\n(.*?)\n=+  =+", PACKAGES[name].__doc__ or "", re.DOTALL)
    listed = [found for table in tables for found in re.findall(r"``(\w+)``", table)]
    assert set(listed) <= set(PACKAGES[name].__all__)
    assert len(listed) == len(set(listed))

"""The wheel's packages: ``vcfbert``, and the checkout's folder ``service`` under the name ``vcfbert_service``.

A top-level package called ``service`` would collide with others'. Everything else is declared in pyproject.toml. The
training image has no folder ``service``, so the packages are found rather than listed.
"""

from setuptools import find_packages, setup

library = find_packages(include=["vcfbert", "vcfbert.*"])
service = [f"vcfbert_{package}" for package in find_packages(include=["service", "service.*"])]

setup(packages=library + service, package_dir={"vcfbert_service": "service"} if service else {})

"""The wheel's packages and its compiled kernels. Everything else is declared in pyproject.toml.

Packages: ``vcfbert``, and the checkout's folder ``service`` under the name ``vcfbert_service``, because a top-level
package called ``service`` would collide with others'. The training image has no folder ``service``, so the packages are
found rather than listed.

Kernels: the C files of ``vcfbert/kernels``, built once for every processor of the platform and once for those with
AVX2. They do not use Python's C interface, so one wheel serves all versions of Python. Without a C compiler the
installation goes on, and numpy does their work (vcfbert/kernels/__init__.py).
"""

import hashlib
import platform
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup

# Lets the compiler reorder sums, so that it can vectorise them. Infinities and NaN keep their meaning.
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror=incompatible-pointer-types", "-fvisibility=default"]
FLAGS += ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"]
FLAGS += ["-freciprocal-math"]
PROCESSORS = {"generic": []}
if platform.machine() in ("x86_64", "AMD64"):
    PROCESSORS["avx2"] = ["-march=haswell", "-mtune=generic"]


def sources_digest():
    """sha256 of all sources, as ``vcfbert.kernels`` computes it when it loads the library."""
    return hashlib.sha256(
        b"".join(Path(path).read_bytes() for path in sorted(glob("vcfbert/kernels/*.[ch]")))
    ).hexdigest()


def library(name, flags):
    return Extension(
        f"vcfbert.kernels.{name}",
        sorted(glob("vcfbert/kernels/*.c")),
        depends=glob("vcfbert/kernels/*.h"),
        define_macros=[("VCFBERT_SOURCES", f'"{sources_digest()}"')],
        extra_compile_args=FLAGS + flags,
        libraries=["m"],
        py_limited_api=True,
        optional=True,
    )


packages = find_packages(include=["vcfbert", "vcfbert.*"])
service = [f"vcfbert_{package}" for package in find_packages(include=["service", "service.*"])]

setup(
    packages=packages + service,
    package_dir={"vcfbert_service": "service"} if service else {},
    ext_modules=[library(name, flags) for name, flags in PROCESSORS.items()],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)

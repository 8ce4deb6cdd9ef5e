"""Packaging: reads the version and the requirements from their files, without importing the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "mtasklite/version.py").read_text("utf-8"), re.M)
if VERSION is None:
    raise RuntimeError('mtasklite/version.py has no line of the form: __version__ = "1.2.3"')

TEST = ["pytest>=7.4", "pytest-timeout>=2.2", "pytest-xdist>=3.5", "hypothesis>=6.80", "psutil>=5.9"]
PLOT = ["matplotlib>=3.6"]
TEST += ["jupyter_client>=8", "ipykernel>=6", "nbclient>=0.10", "numpy", "rich", "mypy>=1.8", *PLOT]
DEV = [*TEST, "pytest-cov>=4.1", "pyright[nodejs]", "ruff>=0.4", "build", "twine", "types-tqdm", "types-psutil"]
RAY = ["ray>=2.9"]
DASK = ["dask[distributed]>=2024.1"]
NOTEBOOKS = ["nbclient>=0.10", "ipykernel>=6", "ipywidgets>=8", "spacy>=3.7", "pqdm>=0.2"]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.30", "mkdocs-jupyter>=0.26.3", "ruff>=0.9"]

# Beside the description, on the package index, there are no files that a relative link could lead to: it names them.
DESCRIPTION = re.sub(r"\[([^\]]+)\]\((?!https:|#)([^)]+)\)", r"\1 (`\2`)", (HERE / "README.md").read_text("utf-8"))

setup(
    name="mtasklite",
    version=VERSION.group(1),
    description="Map stateful workers lazily over any iterable, on processes or threads, with a progress bar.",
    long_description=DESCRIPTION,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["mtasklite", "mtasklite.*"]),
    package_data={"mtasklite": ["py.typed"], "mtasklite.tests": ["pytest.ini"]},
    install_requires=(HERE / "requirements.txt").read_text("utf-8").split(),
    extras_require={
        "plot": PLOT,
        "test": TEST,
        "dev": DEV,
        "docs": DOCS,
        "notebooks": NOTEBOOKS,
        "ray": RAY,
        "dask": DASK,
    },
    python_requires=">=3.9",
    keywords=["parallel", "multiprocessing", "pool", "map", "progress bar", "tqdm", "pqdm", "lazy"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Software Development :: Libraries",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)

"""The house's rules, read off the source: who imports whom, who reads the environment, how long files are."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from vcfbert.config import PROFILES, load, profile
from vcfbert.tuning.identity import TRIAL_ROOMS

ROOT = Path(__file__).parents[2]

# Each room (a folder of ``vcfbert``, or a file at its top) imports only itself and rooms of a lower layer. The layers
# name every room: a new one is placed here before it can land.
LAYERS = (
    ("vcfbert", "errors", "constants"),
    ("artifacts", "tracker", "kernels"),
    ("config", "exits", "client"),
    ("genotypes", "metrics"),
    ("copying",),
    ("model",),
    ("retrieval",),
    ("bundle",),
    ("imputation",),
    ("training",),
    ("evaluation", "reports"),
    ("tracking",),
    ("tuning", "distributed", "datasets"),
    ("api", "cli"),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# The same of the service's folders and top-level files.
SERVICE_LAYERS = (
    ("service", "settings", "allocator", "storage"),
    ("models", "uploads"),
    ("http",),
    ("jobs",),
    ("routes",),
    ("app", "worker_metrics", "keys"),
    ("worker", "__main__"),
)
SERVICE_RANK = {room: rank for rank, rooms in enumerate(SERVICE_LAYERS) for room in rooms}
MAX_ROOMS = 30  # folders with code, of the whole repository

SERVED = ("vcfbert.bundle.load", "vcfbert.imputation.imputer", "vcfbert.imputation.files")
NOT_SERVED = {"mlflow", "optuna", "dvc", "fastapi", "ray"}
MAX_FILE = 500  # lines
MAX_STAGE = 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    paths = [path for folder in ("vcfbert", "pipelines", "service") for path in (ROOT / folder).rglob("*.py")]
    return {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(paths)}


def import_source(module: str, node: ast.ImportFrom) -> str:
    """Full name of the module after ``from``. The service alone imports relatively: a wheel gives it another name."""
    if node.level == 0:
        return str(node.module)
    assert module.split(".")[0] == "service", f"{module} imports relatively"
    parts = module.split(".")
    is_package = (ROOT / Path(*parts) / "__init__.py").is_file()
    parents = parts[: len(parts) - node.level + is_package]
    assert parents, f"{module} imports from above its package"
    return ".".join([*parents, *([node.module] if node.module else [])])


@cache
def imports(module: str) -> frozenset[str]:
    """Full names of everything a module imports, inside functions too; ``from a import b`` is 'a.b' where that is a
    module of ours, else 'a'."""
    if module == "vcfbert":  # its public names load on first use; what it names for type checkers is no import
        return frozenset()
    found = set()
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = import_source(module, node)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                found.add(full if full in modules() else source)
    return frozenset(found)


def imports_of(package: str) -> Iterator[tuple[str, str]]:
    """Pairs of module and imported name over a package."""
    for module in modules():
        if module.split(".")[0] == package:
            yield from ((module, name) for name in sorted(imports(module)))


def reachable(module: str) -> set[str]:
    """Our modules that importing ``module`` may import, itself included."""
    seen, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [other for other in imports(name) if other in modules()]
    return seen


def room(module: str) -> str | None:
    """The folder or top-level file of ``vcfbert`` that a module is in; None for others' modules."""
    parts = module.split(".")
    if parts[0] != "vcfbert":
        return None
    return parts[1] if len(parts) > 1 else "vcfbert"


def test_every_room_has_a_rank_and_every_rank_a_room() -> None:
    assert set(RANK) == {room(module) for module in modules()} - {None}


def test_rooms_import_lower_layers_alone() -> None:
    wrong = []
    for module, name in imports_of("vcfbert"):
        own, other = room(module), room(name)
        if other is not None and own != other and RANK[str(other)] >= RANK[str(own)]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def service_room(module: str) -> str | None:
    """The folder or top-level file of ``service`` that a module is in; None for others' modules."""
    parts = module.split(".")
    if parts[0] != "service":
        return None
    return parts[1] if len(parts) > 1 else "service"


def test_every_service_room_has_a_rank_and_every_rank_a_room() -> None:
    assert set(SERVICE_RANK) == {service_room(module) for module in modules()} - {None}


def test_service_rooms_import_lower_layers_alone() -> None:
    wrong = []
    for module, name in imports_of("service"):
        own, other = service_room(module), service_room(name)
        if other is not None and own != other and SERVICE_RANK[str(other)] >= SERVICE_RANK[str(own)]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_house_has_few_rooms() -> None:
    folders = {
        str(path.parent)
        for top in ("vcfbert", "pipelines", "service", "benchmarks", "studies", "contrib")
        for path in (ROOT / top).rglob("*.py")
    }
    assert len(folders) <= MAX_ROOMS


def test_no_circles() -> None:
    circles = [module for module in modules() if any(module in reachable(o) for o in imports(module) if o in modules())]
    assert circles == []


def test_pipelines_and_service_import_the_library_and_never_each_other() -> None:
    assert [pair for pair in imports_of("vcfbert") if pair[1].split(".")[0] in ("pipelines", "service")] == []
    assert [pair for pair in imports_of("pipelines") if pair[1].split(".")[0] == "service"] == []
    assert [pair for pair in imports_of("service") if pair[1].split(".")[0] == "pipelines"] == []


def test_service_imports_itself_relatively() -> None:
    """The same files are ``service`` in a checkout and ``vcfbert_service`` in a wheel."""
    absolute = []
    for module, tree in modules().items():
        if module.split(".")[0] != "service":
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [str(node.module)]
            absolute += [f"{module} imports {name}" for name in names if name.split(".")[0] == "service"]
    assert absolute == []


def test_mlflow_stays_in_tracking() -> None:
    users = {module for module in modules() if any(name.split(".")[0] == "mlflow" for name in imports(module))}
    assert users
    assert {user for user in users if not user.startswith("vcfbert.tracking.")} == set()


def test_optuna_stays_in_the_package_of_studies() -> None:
    users = {module for module in modules() if any(name.split(".")[0] == "optuna" for name in imports(module))}
    assert users
    assert {user for user in users if not user.startswith("vcfbert.tuning.")} == set()


def test_ray_stays_in_the_ray_pool() -> None:
    users = {module for module in modules() if any(name.split(".")[0] == "ray" for name in imports(module))}
    assert users == {"vcfbert.distributed.ray_pool"}


@pytest.mark.parametrize("module", SERVED)
def test_what_is_served_needs_no_platform(module: str) -> None:
    needed = {name.split(".")[0] for ours in reachable(module) for name in imports(ours)}
    assert needed & NOT_SERVED == set()


def test_arguments_are_parsed_in_the_command_line_alone() -> None:
    parsers = {"argparse", "typer", "click", "optparse", "getopt"}
    users = {module for module in modules() if any(name.split(".")[0] in parsers for name in imports(module))}
    assert "vcfbert.cli.app" in users
    assert {user for user in users if not user.startswith("vcfbert.cli.")} == set()


def test_progress_is_drawn_in_the_console_alone() -> None:
    """The library reports progress through callbacks. A comparison's tables are rich's too, and stand still."""
    users = {module for module in modules() if any(name.split(".")[0] == "rich" for name in imports(module))}
    assert users == {"vcfbert.cli.console", "vcfbert.reports.comparison", "pipelines.compare"}


def test_the_environment_is_read_in_two_places() -> None:
    readers = set()
    for module, tree in modules().items():
        for node in ast.walk(tree):
            by_attribute = isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
            by_name = isinstance(node, ast.Name) and node.id in ("environ", "environb", "getenv")
            if by_attribute or by_name:
                readers.add(module)
    assert readers <= {"vcfbert.tracking.store", "service.settings"}


def test_the_library_does_not_print() -> None:
    printing = [
        module
        for module, tree in modules().items()
        if module.startswith("vcfbert")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert set(printing) <= {"vcfbert.cli.app"}


def test_every_module_says_what_it_is() -> None:
    silent = [module for module, tree in modules().items() if tree.body and ast.get_docstring(tree) is None]
    assert silent == []


def test_stages_are_thin() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "pipelines").glob("*.py")}
    assert {name: n for name, n in lengths.items() if n > MAX_STAGE} == {}


def test_no_file_grows_too_long() -> None:
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths if path.is_file()}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE} == {}


def test_params_are_the_cpu_profile() -> None:
    assert load(ROOT / "params.yaml") == profile("cpu")
    assert (ROOT / "params.yaml").read_text() == (ROOT / "vcfbert" / "profiles" / "cpu.yaml").read_text()


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_is_valid_and_whole(name: str) -> None:
    """A parameter that a profile left to its default could change under a user's feet."""
    import yaml

    config = profile(name)
    written = yaml.safe_load((ROOT / "vcfbert" / "profiles" / f"{name}.yaml").read_text())
    assert {section: set(values) for section, values in written.items()} == {
        section: set(values) for section, values in config.as_dict().items()
    }


def test_study_digest_covers_the_rooms_that_trials_run() -> None:
    """A room that is missing would mix figures of different code; one too many would make a new study of every edit."""
    run = set().union(*(reachable(module) for module in modules() if module.startswith("vcfbert.tuning.")))
    rooms = {str(room(module)) for module in run if room(module) is not None} - PLUMBING
    assert set(TRIAL_ROOMS) == rooms


# What no figure depends on: how errors and progress are told, files written, runs recorded, and where things came from.
PLUMBING = {
    "vcfbert",
    "artifacts",
    "cli",
    "config",
    "constants",
    "errors",
    "exits",
    "tracker",
    "tracking",
}


@pytest.mark.parametrize("stage", sorted(path.stem for path in (ROOT / "pipelines").glob("[a-z]*.py")))
def test_stages_depend_on_the_code_that_they_run(stage: str) -> None:
    """DVC runs a stage again when its deps change: code that is not listed would change results in silence."""
    import yaml

    stages = {}
    for path in (ROOT / "dvc.yaml", ROOT / "studies" / "dvc.yaml"):
        stages |= yaml.safe_load(path.read_text())["stages"]
    if stage not in stages:
        assert stage == "common"
        return
    ours = {module for module in reachable(f"pipelines.{stage}") if module.startswith("vcfbert.")}
    files = {module.replace(".", "/") for module in ours if room(module) not in PLUMBING}
    listed = [dep.removesuffix(".py") for dep in stages[stage]["deps"]]
    missing = [name for name in files if not any(name == dep or name.startswith(f"{dep}/") for dep in listed)]
    assert sorted(missing) == []

"""The arrows between the packages, asserted on the code's own imports."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("schemas", "ingress", "workers", "policy", "ops")
ALLOWED = {
    "schemas": {"schemas"},
    "ingress": {"schemas", "ingress"},
    "workers": {"schemas", "workers"},
    "policy": {"schemas", "policy"},
    "ops": set(PACKAGES),
}
PURE = (
    "policy/reducer.py",
    "policy/audio.py",
    "policy/driver.py",
    "policy/faces.py",
    "policy/health.py",
    "policy/ladder.py",
    "policy/once.py",
    "policy/sync.py",
    "ops/archive/rerun_rows.py",
    "ops/replay/media/likeness.py",
    "ops/replay/media/plan.py",
    "ops/replay/media/verdict.py",
    "workers/freshness.py",
    "workers/models/byte_input.py",
    "workers/models/contract.py",
    "workers/models/graph_bytes.py",
    "workers/models/graph_parts.py",
    "workers/models/manifest.py",
    "workers/models/protobuf.py",
    "workers/reports.py",
    "workers/tallies.py",
    "workers/voice/bypass.py",
    "workers/video/cadence.py",
    "workers/video/tracker.py",
    "ingress/pcm.py",
    "ingress/in_force.py",
    "ingress/thinning.py",
    "ingress/status.py",
    "ingress/timeline.py",
    "ingress/jpeg_guard.py",
    "ingress/buckets.py",
    "ops/replay/compare.py",
    "ops/replay/state.py",
    "ops/replay/timeline.py",
    "schemas/ids.py",
    "schemas/media.py",
    "schemas/events.py",
    "schemas/decisions.py",
    "schemas/wire.py",
    "ops/archive/chunk.py",
    "ops/archive/gaps.py",
    "ops/archive/missing.py",
)
IO = {"asyncio", "os", "socket", "subprocess", "threading", "time", "random", "secrets", "redis", "urllib", "pathlib"}


def imports(path: Path) -> set[str]:
    """Return the full names of the modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in files(package):
        ours = {name.split(".")[0] for name in imports(path)} & {*PACKAGES, "tests"}
        assert ours <= ALLOWED[package], f"{path.relative_to(ROOT)} imports {sorted(ours - ALLOWED[package])}"


def test_one_module_knows_redis() -> None:
    knowing = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if any(name.split(".")[0] == "redis" for name in imports(path))
    ]
    assert knowing == ["schemas/bus/redis.py"]


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_no_io(name: str) -> None:
    assert {full.split(".")[0] for full in imports(ROOT / name)} & IO == set()


def test_class_names_are_unique_across_packages() -> None:
    seen: dict[str, str] = {}
    for package in PACKAGES:
        for path in files(package):
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    where = str(path.relative_to(ROOT))
                    assert node.name not in seen, f"{node.name} is in {seen[node.name]} and in {where}"
                    seen[node.name] = where


def test_no_installed_distribution_shadows_our_packages() -> None:
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        assert set(owners.get(package, ["mirage"])) == {"mirage"}, f"{package} also comes from {owners[package]}"

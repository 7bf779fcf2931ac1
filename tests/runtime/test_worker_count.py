from __future__ import annotations

from pathlib import Path

import pytest

from traffic_analytics.runtime.worker_count import MOST_WORKERS, Limits, WorkerCount, choose_worker_count, read_limits

V2 = "30 23 0:26 {root} {at} ro,nosuid shared:9 master:1 - cgroup2 cgroup rw,nsdelegate"
V1 = "33 25 0:29 {root} {at} ro,nosuid - cgroup cgroup rw,{controllers}"
UNLIMITED_V1 = "9223372036854771712"
MIB = 1024 * 1024


def machine(root: Path, own: str, mounts: list[str], files: dict[str, str]) -> Path:
    """Write the files that a process sees of its cgroups."""
    content = {
        "proc/self/cgroup": own,
        "proc/self/mountinfo": "22 1 8:1 / / rw - ext4 /dev/sda rw\n" + "\n".join(mounts),
    }
    for name, text in (content | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def v2(own: str, files: dict[str, str], root: str = "/") -> tuple[str, list[str], dict[str, str]]:
    at = "/sys/fs/cgroup"
    return f"0::{own}", [V2.format(root=root, at=at)], {f"sys/fs/cgroup/{name}": text for name, text in files.items()}


def v1(own: str, files: dict[str, str], root: str = "/") -> tuple[str, list[str], dict[str, str]]:
    mounts = [
        V1.format(root=root, at="/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct"),
        V1.format(root=root, at="/sys/fs/cgroup/memory", controllers="memory"),
        V1.format(root=root, at="/sys/fs/cgroup/systemd", controllers="xattr,name=systemd"),
    ]
    lines = f"4:memory:{own}\n3:cpuset:{own}\n2:cpu,cpuacct:{own}\n1:name=systemd:/other\n0::/"
    return lines, mounts, {f"sys/fs/cgroup/{name}": text for name, text in files.items()}


CPU = "cpu,cpuacct"
CASES: dict[str, tuple[tuple[str, list[str], dict[str, str]], Limits]] = {
    "v2, half a CPU": (v2("/", {"cpu.max": "50000 100000", "memory.max": "268435456"}), Limits(0.5, 256 * MIB)),
    "v2, another period": (v2("/", {"cpu.max": "30000 20000"}), Limits(1.5, None)),
    "v2, without a period": (v2("/", {"cpu.max": "250000"}), Limits(2.5, None)),
    "v2, no limits": (v2("/", {"cpu.max": "max 100000", "memory.max": "max"}), Limits(None, None)),
    "v2, no files": (v2("/", {}), Limits(None, None)),
    "v2, a limit of the cgroup itself": (
        v2("/system.slice/a b.service", {"system.slice/a b.service/cpu.max": "100000 100000"}),
        Limits(1.0, None),
    ),
    "v2, a smaller limit further out": (
        v2(
            "/pod/inner/leaf",
            {
                "pod/cpu.max": "150000 100000",
                "pod/memory.max": "1073741824",
                "pod/inner/cpu.max": "400000 100000",
                "pod/inner/memory.max": "max",
                "pod/inner/leaf/cpu.max": "max 100000",
            },
        ),
        Limits(1.5, 1024 * MIB),
    ),
    "v2, a limit of another cgroup": (v2("/mine", {"other/cpu.max": "50000 100000"}), Limits(None, None)),
    "v2, the host's path in a container": (
        v2("/docker/abc", {"cpu.max": "50000 100000"}, root="/docker/abc"),
        Limits(0.5, None),
    ),
    "v2, below the host's path": (
        v2("/docker/abc/init", {"init/cpu.max": "50000 100000"}, root="/docker/abc"),
        Limits(0.5, None),
    ),
    "v2, a path that only begins alike": (
        v2("/docker/abcdef", {"cpu.max": "50000 100000", "def/cpu.max": "10000 100000"}, root="/docker/abc"),
        Limits(0.5, None),
    ),
    "v2, a path outside the namespace": (v2("/../../x", {"cpu.max": "50000 100000"}), Limits(0.5, None)),
    "v2, words": (v2("/", {"cpu.max": "lots of", "memory.max": "-5"}), Limits(None, None)),
    "v2, zeros": (v2("/", {"cpu.max": "0 0", "memory.max": "0"}), Limits(None, None)),
    "v2, endless digits": (v2("/", {"cpu.max": "9" * 5000, "memory.max": "9" * 5000}), Limits(None, None)),
    "v2, mounted elsewhere": (
        (
            "0::/",
            [V2.format(root="/", at=r"/mnt/c\040g")],
            {"mnt/c g/cpu.max": "50000 100000", "mnt/c g/memory.max": "268435456"},
        ),
        Limits(0.5, 256 * MIB),
    ),
    "v1": (
        v1(
            "/",
            {
                f"{CPU}/cpu.cfs_quota_us": "50000",
                f"{CPU}/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": "268435456",
            },
        ),
        Limits(0.5, 256 * MIB),
    ),
    "v1, no limits": (
        v1(
            "/",
            {
                f"{CPU}/cpu.cfs_quota_us": "-1",
                f"{CPU}/cpu.cfs_period_us": "100000",
                "memory/memory.limit_in_bytes": UNLIMITED_V1,
            },
        ),
        Limits(None, int(UNLIMITED_V1)),
    ),
    "v1, without a period": (v1("/", {f"{CPU}/cpu.cfs_quota_us": "150000"}), Limits(1.5, None)),
    "v1, the host's path in a container": (
        v1("/kubepods/pod1/abc", {f"{CPU}/cpu.cfs_quota_us": "50000"}, root="/kubepods/pod1/abc"),
        Limits(0.5, None),
    ),
    "v1, a smaller limit further out": (
        v1(
            "/pod/leaf",
            {
                f"{CPU}/pod/cpu.cfs_quota_us": "50000",
                f"{CPU}/pod/leaf/cpu.cfs_quota_us": "-1",
                "memory/pod/memory.limit_in_bytes": "134217728",
                "memory/pod/leaf/memory.limit_in_bytes": UNLIMITED_V1,
            },
        ),
        Limits(0.5, 128 * MIB),
    ),
    "both": (
        (
            "2:cpu:/a\n0::/b",
            [V1.format(root="/", at="/c/cpu", controllers="cpu"), V2.format(root="/", at="/c/unified")],
            {"c/cpu/a/cpu.cfs_quota_us": "200000", "c/unified/b/memory.max": "134217728"},
        ),
        Limits(2.0, 128 * MIB),
    ),
    "lines that mean nothing": (("nonsense\n\n::\n0::/", ["nonsense", "- -", "1 2 - cgroup2"], {}), Limits(None, None)),
}


@pytest.mark.parametrize(("files", "limits"), CASES.values(), ids=CASES)
def test_the_limits_of_all_cgroups_around_the_process_count(
    tmp_path: Path, files: tuple[str, list[str], dict[str, str]], limits: Limits
) -> None:
    assert read_limits(machine(tmp_path, *files)) == limits


def test_without_proc_there_are_no_limits(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == Limits(None, None)


@pytest.mark.parametrize("name", ["proc/self/cgroup", "proc/self/mountinfo", "sys/fs/cgroup/cpu.max"])
@pytest.mark.parametrize("damage", ["a directory", "not text"])
def test_a_file_that_cannot_be_read_sets_no_limit(tmp_path: Path, name: str, damage: str) -> None:
    root = machine(tmp_path, *v2("/", {"cpu.max": "50000 100000"}))
    (root / name).unlink()
    if damage == "not text":
        (root / name).write_bytes(b"\xff\xfe 50000")
    else:
        (root / name).mkdir()

    assert read_limits(root) == Limits(None, None)


def test_the_limits_of_this_machine_can_be_read() -> None:
    cpus, memory = read_limits()

    assert cpus is None or cpus > 0
    assert memory is None or memory > 0


@pytest.mark.parametrize(
    ("cpus", "quota", "megabytes", "count", "reason"),
    [
        (1, None, None, 1, "each CPU"),
        (4, None, None, 4, "each CPU"),
        (MOST_WORKERS, None, None, MOST_WORKERS, "each CPU"),
        (64, None, None, MOST_WORKERS, "WEB_CONCURRENCY"),
        (64, 48.0, 100_000, MOST_WORKERS, "WEB_CONCURRENCY"),
        (2, 0.5, None, 1, "quota is 0.5"),
        (2, 0.01, None, 1, "quota is 0.01"),
        (8, 1.0, None, 1, "quota is 1"),
        (8, 1.2, None, 2, "quota is 1.2"),
        (2, 6.0, None, 2, "each CPU"),
        (8, None, 512, 4, "memory limit is 512 MiB"),
        (8, None, 255, 1, "memory limit is 255 MiB"),
        (8, None, 64, 1, "memory limit is 64 MiB"),
        (8, 3.0, 256, 2, "memory limit is 256 MiB"),
        (8, 2.0, 4096, 2, "quota is 2"),
    ],
)
def test_the_smallest_limit_sets_the_number_of_worker_processes(
    cpus: int, quota: float | None, megabytes: int | None, count: int, reason: str
) -> None:
    chosen = choose_worker_count(cpus, Limits(quota, None if megabytes is None else megabytes * MIB))

    assert isinstance(chosen, WorkerCount)
    assert chosen.number == count
    assert reason in chosen.reason

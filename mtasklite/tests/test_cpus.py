"""How many CPUs this process may use."""

from __future__ import annotations

import os

import pytest

from mtasklite import Pool, _cpus
from mtasklite._cpus import available_cpus, cgroup_quota


def _write_version_2(root, text):
    (root / "cpu.max").write_text(text)


def _write_version_1(root, quota, period):
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (root / "cpu" / "cpu.cfs_period_us").write_text(period)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a function that pretends that the affinity mask has so many CPUs; quotas are read from `tmp_path`."""
    monkeypatch.setattr(_cpus, "CGROUP", tmp_path)

    def set_cpus(count):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(count)), raising=False)

    return set_cpus


@pytest.mark.parametrize(("text", "cpus"), [("200000 100000\n", 2.0), ("50000 100000\n", 0.5), ("150000 100000", 1.5)])
def test_quota_of_version_2(tmp_path, text, cpus):
    """`cpu.max` holds quota and period."""
    _write_version_2(tmp_path, text)
    assert cgroup_quota(tmp_path) == cpus


@pytest.mark.parametrize(
    "text", ["max 100000\n", "", "nonsense", "a b", "100000 0", "0 100000", "-1 100000", "1 2 3", "\u00e9 \u00e9"]
)
def test_no_quota_of_version_2_where_there_is_none(tmp_path, text):
    """`max`, and whatever cannot be understood, is no quota."""
    (tmp_path / "cpu.max").write_text(text, "utf-8")
    assert cgroup_quota(tmp_path) is None


@pytest.mark.parametrize(("quota", "cpus"), [("300000\n", 3.0), ("25000", 0.25)])
def test_quota_of_version_1(tmp_path, quota, cpus):
    """Version 1 has quota and period in two files."""
    _write_version_1(tmp_path, quota, "100000\n")
    assert cgroup_quota(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "period"), [("-1\n", "100000\n"), ("100000", "0"), ("", ""), ("x", "y")])
def test_no_quota_of_version_1_where_there_is_none(tmp_path, quota, period):
    """-1, and whatever cannot be understood, is no quota."""
    _write_version_1(tmp_path, quota, period)
    assert cgroup_quota(tmp_path) is None


def test_version_2_is_preferred(tmp_path):
    """Where both are mounted, version 2 counts."""
    _write_version_2(tmp_path, "200000 100000")
    _write_version_1(tmp_path, "300000", "100000")
    assert cgroup_quota(tmp_path) == 2.0


def test_no_quota_without_control_groups(tmp_path):
    """A machine without control groups has no quota."""
    assert cgroup_quota(tmp_path / "missing") is None


def test_available_cpus_follow_the_affinity_mask(machine):
    """Without a quota they are the CPUs of the mask."""
    machine(5)
    assert available_cpus() == 5


def test_available_cpus_are_all_where_masks_are_unknown(machine, monkeypatch):
    """On a platform without masks they are the machine's CPUs."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert available_cpus() == 7


def test_available_cpus_are_one_where_nothing_is_known(machine, monkeypatch):
    """A platform that cannot say how many CPUs it has has one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1


@pytest.mark.parametrize(("quota", "cpus"), [("200000", 2), ("150000", 2), ("20000", 1), ("9900000", 5)])
def test_available_cpus_respect_the_quota(machine, tmp_path, quota, cpus):
    """A quota lowers the number, rounded up, never below 1 and never above the mask."""
    machine(5)
    _write_version_2(tmp_path, f"{quota} 100000")
    assert available_cpus() == cpus


@pytest.mark.parametrize(
    ("n_jobs", "workers"), [(None, 5), (-1, 5), (-2, 4), (-5, 1), (-99, 1), (0, 1), (3, 3), (8, 8)]
)
def test_pool_counts_workers_from_available_cpus(machine, n_jobs, workers):
    """`None` and -1 are all CPUs, -2 all but one, never less than one; 0 counts as 1."""
    machine(5)
    assert Pool(abs, n_jobs).num_workers == workers

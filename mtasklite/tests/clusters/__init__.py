"""Tests of the pool on a cluster; run by ``python -m mtasklite.tests.run_all_unittests --backend ray``."""

"""A flood of output costs no memory, and blocks nobody for ever."""

from __future__ import annotations

import time

import pytest

from mtasklite.tests.programs import Program, by_speed, script
from mtasklite.tests.workers import ALL, LIMIT_SECONDS

N_BYTES = 100_000_000
MAX_GROWTH = 48 << 20
"""Bytes by which the processes may grow: a part of what is printed. What they take is some 5 MB."""

FLOOD = """
    import psutil

    class Meter:
        \"\"\"Counts what is written, and forgets it.\"\"\"
        n_lines, n_wrong, rest = 0, 0, ""
        def write(self, text):
            lines = (self.rest + text).split("\\n")
            self.rest = lines.pop()
            self.n_lines += len(lines)
            self.n_wrong += sum(line != LINE for line in lines)
        def flush(self):
            pass

    LINE = "x" * 99

    def growth():
        info = psutil.Process().memory_full_info()
        return info.uss

    def flood(item):
        before = peak = growth()
        if item % 2:
            for number in range(N_LINES // 4):
                print(LINE)
                if not number % 10_000:
                    peak = max(peak, growth())
        else:
            text = (LINE + "\\n") * 10_000
            before = growth()
            for number in range(N_LINES // 4 // 10_000):
                sys.stdout.write(text)
                peak = max(peak, growth())
        return peak - before

    if __name__ == "__main__":
        meter = sys.stdout = Meter()
        before = peak = growth()
        stop = threading.Event()
        def watch():
            global peak
            while not stop.wait(0.01):
                peak = max(peak, growth())
        watcher = threading.Thread(target=watch)
        watcher.start()
        grown = []
        for one in pqdm(range(4), flood, disable=True, **KWARGS):
            grown.append(one)
            time.sleep(0.5)
        stop.set()
        watcher.join()
        print(meter.n_lines, meter.n_wrong, peak - before, max(grown), file=sys.__stdout__)
"""


@pytest.mark.parametrize("place", by_speed(ALL))
def test_flood_costs_no_memory(place, tmp_path):
    """Of 100 MB that two workers print while the consumer is slow, each line arrives, and no process grows by much."""
    path = script(tmp_path, FLOOD, KWARGS=ALL[place], N_LINES=N_BYTES // 100)
    with Program(tmp_path, path) as program:
        assert program.end(2 * LIMIT_SECONDS) == 0, program.err
        n_lines, n_wrong, parent, worker = map(int, program.out.split())
    assert (n_lines, n_wrong) == (N_BYTES // 100, 0)
    assert parent < MAX_GROWTH
    assert worker < MAX_GROWTH


@pytest.mark.parametrize("method", by_speed(["fork", "spawn"]))
@pytest.mark.parametrize("way", ["break", "error", "interrupt", "exit"])
def test_flood_ends_with_its_pool(way, method, tmp_path):
    """Workers that print without end do not hold up the end of a pool, however it comes, nor outlive it."""
    code = """
        class Nowhere:
            def write(self, text):
                pass
            def flush(self):
                pass

        def flood(item):
            if not item:
                return os.getpid()
            while True:
                print("x" * 1000)

        if __name__ == "__main__":
            sys.stdout = Nowhere()
            with contextlib.suppress(KeyError):
                with Pool(flood, 2, start_method=METHOD, forward_output=True, join_timeout=1.0) as pool:
                    results = pool([0] + [1] * 5)
                    next(results)
                    mark("begun")
                    if WAY == "interrupt":
                        next(results)
                    if WAY == "error":
                        raise KeyError
                    if WAY == "exit":
                        sys.exit(0)
    """
    path = script(tmp_path, code, METHOD=method, WAY=way)
    with Program(tmp_path, path) as program:
        program.wait_for("begun")
        if way == "interrupt":
            time.sleep(0.2)
            program.interrupt()
            program.check_interrupted()
        else:
            program.check_quiet()

"""Signals to a run. What they do to its checkpoints is in test_loop.py."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from wne_jax.training.stopping import stopped_by_signals

COMPILES = """
import hashlib, signal
from wne_jax.training.stopping import stopped_by_signals
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
with stopped_by_signals() as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # compiled code, of minutes
"""


def noted(stop, code):
    deadline = time.monotonic() + 10
    while stop.code != code and time.monotonic() < deadline:
        time.sleep(0.001)
    return stop.code == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_handlers_come_back(number):
    def ours(*_):
        raise AssertionError("the handler of before")

    before = signal.signal(number, ours)
    try:
        with stopped_by_signals() as stop:
            os.kill(os.getpid(), number)
            assert noted(stop, 128 + number)
            os.kill(os.getpid(), signal.SIGTERM)  # asks once more, and ends nothing
            assert noted(stop, 128 + number)
        assert signal.getsignal(number) is ours and signal.set_wakeup_fd(-1) == -1
        assert "signals" not in [thread.name for thread in threading.enumerate()]
    finally:
        signal.signal(number, before)


def test_a_second_ctrl_c_ends_the_process_within_compiled_code():
    child = subprocess.Popen(
        [sys.executable, "-c", COMPILES],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        time.sleep(0.2)  # two that are pending together are one
    _, said = child.communicate(timeout=20)
    assert child.returncode == 130
    first, second = [line for line in said.splitlines() if line]
    assert "once more leaves at once" in first and "stopped at once" in second


def test_signals_are_left_alone_outside_of_the_main_thread_and_where_they_are_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}

            def elsewhere():
                with stopped_by_signals() as stop:
                    assert stop.code == 0
                    assert all(signal.getsignal(n) is handler for n, handler in handlers.items())
                done.append(True)

            done: list[bool] = []
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert done
    finally:
        signal.signal(signal.SIGINT, before)

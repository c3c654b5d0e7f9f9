"""Specs are built in threads, several at once, also the first ones of a supervisor."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys, threading
sys.setswitchinterval(1e-6)
from supervisor.oci import seccomp
together = threading.Barrier(4)
def build():
    together.wait()
    seccomp.profile("/usr/share/containers/seccomp.json", ("CAP_CHOWN",))
threads = [threading.Thread(target=build) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_the_first_profiles_can_be_read_by_several_threads_at_once() -> None:
    # One in four processes crashed when the threads made the decoder together.
    for _ in range(12):
        assert subprocess.run([sys.executable, "-c", PROGRAM], check=False).returncode == 0

"""The same tests of jobs again, under the address sanitizer: nothing reads or writes beside it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

JOBS = Path(__file__).with_name("test_jobs.py")


@pytest.mark.once
def test_jobs_touch_what_is_theirs_alone():
    compiler = shutil.which("g++") or pytest.skip("g++ is not installed")
    asked = [compiler, "-print-file-name=libasan.so"]
    sanitizer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(sanitizer).is_absolute():
        pytest.skip("g++ has no address sanitizer here")
    about = {"MINIGPT_EMULATOR": "-fsanitize=address", "LD_PRELOAD": sanitizer}
    about |= {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", str(JOBS)]
    run = subprocess.run(command, env=os.environ | about, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]

"""The emulator as a process of its own."""

import json
import os
import subprocess
import sys

import ee
import pytest
from google.auth.credentials import AnonymousCredentials

pytest.importorskip("nrt")


def test_it_serves_until_its_input_ends():
    command = [
        sys.executable,
        "-m",
        "ee_emulator",
        "--until-eof",
        "--latency",
        "0.01",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        ee.Initialize(AnonymousCredentials(), url=url, project="emulator")
        assert ee.ImageCollection("COPERNICUS/S2_SR_HARMONIZED").size().getInfo() == 140
        process.stdin.close()
        counts = json.loads(process.stdout.read())
        assert process.wait(timeout=30) == 0
    assert counts["value"] == 1


def test_it_says_what_it_takes():
    command = [sys.executable, "-m", "ee_emulator", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "--everywhere" in shown
    assert "--quota" in shown


def test_what_it_cannot_do_is_said_without_a_traceback():
    command = [sys.executable, "-m", "ee_emulator", "--quota", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "shares of faults are each 0..1" in done.stderr
    assert "Traceback" not in done.stderr

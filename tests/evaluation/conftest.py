"""A made-up singer for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from made_up import Singer, singer


@pytest.fixture(scope="session")
def clean() -> Singer:
    return singer()

"""What the gate `.ci/run` checks, piece by piece: nox -l lists the pieces, nox -s lint runs one."""

from __future__ import annotations

import os

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.reuse_existing_virtualenvs = True


@nox.session
def lint(session: nox.Session) -> None:
    """Style and form."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types of the library and of what makes the built-in model."""
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The library without ComfyUI; arguments after -- go to pytest."""
    session.install("-e", ".[test]")
    session.run("pytest", "--ignore=tests/comfyui", *session.posargs)


@nox.session(venv_backend="none")
def comfyui(session: nox.Session) -> None:
    """The nodes in the ComfyUI of COMFYUI_PATH, with the Python of COMFYUI_PYTHON."""
    folder = os.path.expanduser(os.environ.get("COMFYUI_PATH", "~/ComfyUI"))
    python = os.environ.get("COMFYUI_PYTHON", f"{folder}/.venv/bin/python")
    env = {"COMFYUI_PATH": folder}
    session.run(python, "-m", "pytest", "tests/comfyui", *session.posargs, external=True, env=env)


@nox.session(venv_backend="none")
def pictures(session: nox.Session) -> None:
    """The map of the house, drawn from the imports."""
    session.run("python", "docs/house_map.py", external=True)

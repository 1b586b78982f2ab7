"""Reference fixtures through the library: every output tensor compared (`python tests/verify.py DIR`)."""

import singer_core.network  # noqa: F401 (hides an unusable torchaudio before a module here imports diffusers)

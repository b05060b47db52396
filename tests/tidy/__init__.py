"""Rules of style that a machine can check, as tests."""

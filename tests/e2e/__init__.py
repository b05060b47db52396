"""End-to-end tests: real programs, real sockets, real files."""

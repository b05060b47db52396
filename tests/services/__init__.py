"""Starters of the real services that tests and benchmarks talk to.

Every service listens on a free loopback port, is ready when its starter returns, writes its log under the caller's
temporary folder, and dies with the process that started it. `artifacts` builds the pinned programs once.
"""

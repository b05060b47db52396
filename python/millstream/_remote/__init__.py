"""A server over HTTP. Private: use `millstream.connect` and `millstream.aio.connect`.

``calls`` says what is asked and how answers are read, ``retries`` when to ask again, ``rows`` how
columns become bodies; none of them does I/O. ``client`` and ``buffer`` do, and `millstream.aio` is
the same for asyncio.
"""

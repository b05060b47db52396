"""The HTTP server of Millstream.

>>> from millstream_gateway import create_app
>>> from millstream_gateway.backends.fake import FakeBackend
>>> create_app(backend=FakeBackend()).title
'Millstream'
"""

from millstream_gateway.app import create_app

__all__ = ["create_app"]

"""The HTTP server of Millstream. `millstream_gateway.app.create_app` makes the ASGI application."""

"""Plain values that travel between the layers of the gateway."""

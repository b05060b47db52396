"""The store behind the gateway: embedded in this process, or elsewhere. See `protocol.Backend`."""

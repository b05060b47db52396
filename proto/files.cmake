# The files of the wire contract, without their endings.
set(MILLSTREAM_PROTO_NAMES ingest query events)

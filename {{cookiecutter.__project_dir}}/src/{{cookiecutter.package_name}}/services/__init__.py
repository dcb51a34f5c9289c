"""Use cases: what the service does, without HTTP. One file a resource."""

"""One file per API: how a request is shaped and what the bytes of an answer mean. No sockets, no clocks."""

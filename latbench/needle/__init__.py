"""Needle in long code: makes trials from seeds, and grades their answers. Pure: no clocks, no sockets, no store."""

"""What will be sent, as a pure function of scenario and seed. No clocks, no sockets."""

"""Who may do what, and with which login, against real brokers with accounts, permissions and TLS."""

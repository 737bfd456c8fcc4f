"""What commands make of a router, by real connections."""

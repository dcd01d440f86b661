"""Object stores: their objects, and local folders that are copies of what lies there."""

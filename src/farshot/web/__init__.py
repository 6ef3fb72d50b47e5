"""What farshot's servers share: their address, and which requests they refuse."""

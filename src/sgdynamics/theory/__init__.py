"""What can be said about many steps without running them."""

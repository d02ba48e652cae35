"""What calls take, return and raise."""

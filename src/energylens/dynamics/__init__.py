"""What changes inside a network while it trains, and whether it changed beyond noise."""

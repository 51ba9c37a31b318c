"""What lies between a store's face and its bytes: metering, cache, changelog."""

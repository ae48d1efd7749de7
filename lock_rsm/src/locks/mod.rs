//! The lock service and the caching lock client.

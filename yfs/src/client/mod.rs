//! The core put onto the lock client and the extent client.

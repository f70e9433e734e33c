//! Bytes in and out of an object store: segments, manifests, keys.

//! The MAP_SHARED mapping itself.
